package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"joingate/config"
	"joingate/mqtt/broker"

	"github.com/spf13/cobra"
)

func (p *program) brokerCommand() *cobra.Command {
	return group("broker", "Look after the embedded MQTT broker", p.brokerUser())
}

func (p *program) brokerUser() *cobra.Command {
	var file, rights string
	c := &cobra.Command{
		Use:   "user NAME",
		Short: "Print the line of a user for the file of [mqtt] embedded_users_file",
		Long: `Print the line of a user for the file of [mqtt] embedded_users_file; the password
is not in it. A NAME that is a gateway's id has the rights of that gateway: it
publishes under its own id and reads its own commands. --rights gives others: a
list of gateway ids, * (every gateway), events (reads joingate/#), all. The file
is read again when it changes.`,
		Example: "  joingate broker user 0016c001f1500000 --password-file gw.txt >> users\n  joingate broker user bridge --rights '*' --password-file bridge.txt >> users",
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			line, err := brokerLine(args[0], file, rights)
			if err != nil {
				return err
			}
			return p.print(map[string]string{"line": line}, func(w io.Writer) { fmt.Fprintln(w, line) })
		},
	}
	c.Flags().StringVar(&file, "password-file", "", "`FILE` with the password; without: the user comes with a client certificate")
	c.Flags().StringVar(&rights, "rights", "", "what the user may do, if its name is no gateway's id")
	return p.jsonFlag(c)
}

func brokerLine(name, passwordFile, rights string) (string, error) {
	if name == "" || strings.ContainsAny(name, ":\n#") {
		return "", errors.New("a user's name is not empty and has no : and no #")
	}
	password, err := config.Secret(passwordFile)
	if err != nil {
		return "", err
	}
	hash := "-"
	if password != "" {
		if hash, err = broker.HashPassword(password); err != nil {
			return "", err
		}
	}
	line := name + ":" + hash
	if rights != "" {
		line += ":" + rights
	}
	return line, nil
}
