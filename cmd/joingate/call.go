package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"joingate/keyring"
	"joingate/linkwan"

	"github.com/spf13/cobra"
)

func (p *program) callCommand() *cobra.Command {
	var endpoint, keyID, secret string
	c := &cobra.Command{
		Use:   "call ACTION [Key=Value …]",
		Short: "Call an action of the admin API, signed, and print its JSON answer",
		Long: `Call an action of the admin API, signed, and print its JSON answer.

Endpoint and AccessKey come from the flags or from JOINGATE_ENDPOINT,
JOINGATE_ACCESS_KEY_ID and JOINGATE_ACCESS_KEY_SECRET. A secret on the command
line can be seen by other users of the machine: prefer the environment. For an
https:// endpoint with a certificate of a private authority, set SSL_CERT_FILE to
the authority's PEM file.`,
		Example: `  joingate call ListFreqBandPlanGroups
  joingate call CreateLocalJoinPermission JoinPermissionName=meters FreqBandPlanGroupId=101 ClassMode=A UseDefaultJoinEui=true
  joingate call UpdateOwnedLocalJoinPermission JoinPermissionId=1003 RxDelay=5 DataRate=3`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			params, err := keyValues(args[1:])
			if err != nil {
				return err
			}
			client := linkwan.Client{
				Endpoint:    withScheme(first(endpoint, p.variable("JOINGATE_ENDPOINT"), "127.0.0.1:8080")),
				AccessKeyID: first(keyID, p.variable("JOINGATE_ACCESS_KEY_ID")),
				Secret:      keyring.NewSecret(first(secret, p.variable("JOINGATE_ACCESS_KEY_SECRET"))),
			}
			if client.AccessKeyID == "" || client.Secret.Reveal() == "" {
				return errors.New("no AccessKey: set JOINGATE_ACCESS_KEY_ID and JOINGATE_ACCESS_KEY_SECRET (joingate account create prints a pair)")
			}
			return p.call(c.Context(), client, args[0], params)
		},
	}
	c.Flags().StringVar(&endpoint, "endpoint", "", "`URL` of the admin API (default http://127.0.0.1:8080)")
	c.Flags().StringVar(&keyID, "access-key-id", "", "AccessKey `ID`")
	c.Flags().StringVar(&secret, "access-key-secret", "", "AccessKey `SECRET`")
	return p.jsonFlag(c)
}

// call prints the answer, also that of a refusal.
func (p *program) call(ctx context.Context, client linkwan.Client, action string, params map[string]string) error {
	answer, err := client.Call(ctx, action, params)
	var refusal *linkwan.APIError
	if errors.As(err, &refusal) {
		answer, _ = json.Marshal(map[string]string{
			"RequestId": refusal.RequestID, "Code": refusal.Code, "Message": refusal.Message, "Recommend": refusal.Recommend,
		})
	}
	if answer != nil {
		fmt.Fprintln(p.stdout, string(answer))
	}
	return authorityHint(err)
}

// keyValues reads Key=Value arguments.
func keyValues(args []string) (map[string]string, error) {
	params := make(map[string]string, len(args))
	for _, arg := range args {
		key, value, ok := strings.Cut(arg, "=")
		if !ok || key == "" {
			return nil, fmt.Errorf("parameter %q is not of the form Key=Value", arg)
		}
		if _, twice := params[key]; twice {
			return nil, fmt.Errorf("parameter %s is given twice", key)
		}
		params[key] = value
	}
	return params, nil
}

// withScheme lets an endpoint be written as the SDKs take it: HOST:PORT.
func withScheme(endpoint string) string {
	if strings.Contains(endpoint, "://") {
		return endpoint
	}
	return "http://" + endpoint
}

func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}
