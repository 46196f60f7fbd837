package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"joingate/config"

	"github.com/spf13/cobra"
)

func (p *program) rejectsCommand() *cobra.Command {
	var endpoints []string
	var reason string
	c := &cobra.Command{
		Use:   "rejects",
		Short: "List the joins that running servers have refused, and what to do about each",
		Long: `List the joins that running servers have refused, and what to do about each. A
server remembers its last 1,000 refusals until it ends; each of several instances
remembers its own, so name all of them. The default is the operations endpoint
of the configuration, whose certificate is trusted. For others with certificates
of a private authority, set SSL_CERT_FILE to the authority's PEM file.`,
		Example: `  joingate rejects
  joingate rejects --reason unknown_device --json
  joingate rejects --endpoint http://127.0.0.1:9091 --endpoint http://127.0.0.1:9092`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			settings, err := p.loadConfig()
			if err != nil {
				return err
			}
			if len(endpoints) == 0 {
				endpoints = []string{operationsURL(settings.Ops)}
			}
			list, err := askForRejects(c.Context(), endpoints, reason, settings.Ops)
			if err != nil {
				return err
			}
			return p.print(list, func(w io.Writer) { printRejects(w, list) })
		},
	}
	c.Flags().StringArrayVar(&endpoints, "endpoint", nil, "`URL` of an operations endpoint; may be given several times")
	c.Flags().StringVar(&reason, "reason", "", "only refusals for this `REASON`, such as unknown_device")
	return p.jsonFlag(c)
}

// operationsURL is where a server of this configuration answers on this machine.
func operationsURL(o config.Ops) string {
	scheme := "http"
	if o.TLSCert != "" {
		scheme = "https"
	}
	host, port, _ := net.SplitHostPort(o.Listen) // config has checked it
	if host == "" || host == "0.0.0.0" || host == "::" {
		host = "127.0.0.1"
	}
	return scheme + "://" + net.JoinHostPort(host, port)
}

// askForRejects gathers the lists of all endpoints, newest first.
func askForRejects(ctx context.Context, endpoints []string, reason string, o config.Ops) ([]refusedDevice, error) {
	client := operationsClient(o)
	list := []refusedDevice{}
	for _, endpoint := range endpoints {
		target := strings.TrimSuffix(withScheme(endpoint), "/") + "/rejects?reason=" + url.QueryEscape(reason)
		var part []refusedDevice
		if err := getJSON(ctx, client, target, &part); err != nil {
			return nil, err
		}
		list = append(list, part...)
	}
	slices.SortStableFunc(list, func(a, b refusedDevice) int { return b.Last.Compare(a.Last) })
	return list, nil
}

// operationsClient trusts the certificate that the configuration names, beside
// those that the system trusts.
func operationsClient(o config.Ops) *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	if certificate, err := os.ReadFile(o.TLSCert); err == nil {
		roots, err := x509.SystemCertPool()
		if err != nil {
			roots = x509.NewCertPool()
		}
		roots.AppendCertsFromPEM(certificate)
		transport.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	return &http.Client{Transport: transport, Timeout: 10 * time.Second}
}

// mostAnswer bounds what is read of an answer.
const mostAnswer = 16 << 20

func getJSON(ctx context.Context, client *http.Client, target string, into any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return fmt.Errorf("endpoint %s: %w", target, err)
	}
	response, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("no operations endpoint answers: %w: is joingate running, and is --endpoint its operations URL?", authorityHint(err))
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(response.Body, mostAnswer))
	if err == nil && response.StatusCode == http.StatusOK {
		err = json.Unmarshal(body, into)
	}
	if err != nil || response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers with HTTP status %d, but not as an operations endpoint does: check --endpoint", target, response.StatusCode)
	}
	return nil
}

func printRejects(w io.Writer, list []refusedDevice) {
	if len(list) == 0 {
		fmt.Fprintln(w, "no refused joins are remembered")
		return
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "LAST\tTIMES\tREASON\tDEV EUI\tJOIN EUI\tGATEWAYS\tWHAT TO DO")
	for _, d := range list {
		fmt.Fprintf(t, "%s\t%d\t%s\t%s\t%s\t%s\t%s\n", d.Last.Local().Format(time.DateTime), d.Times, d.Reason, d.DevEUI, d.JoinEUI,
			strings.Join(d.gateways(), " "), d.advice())
	}
	_ = t.Flush()
}

func (d refusedDevice) gateways() (euis []string) {
	for _, g := range d.Gateways {
		euis = append(euis, g.GwEUI.String())
	}
	return euis
}

// advice is the remedy with the groups that the device would fit.
func (d refusedDevice) advice() string {
	text := d.Remedy
	if d.Detail != "" {
		text = d.Detail + ": " + text
	}
	if len(d.Fits) == 0 {
		return text
	}
	var names []string
	for _, g := range d.Fits {
		names = append(names, fmt.Sprintf("%s of account %s", g.Name, g.Account))
	}
	return text + " (it would fit node group " + strings.Join(names, ", or ") + ")"
}
