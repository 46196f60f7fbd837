package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func (p *program) configCommand() *cobra.Command {
	check := &cobra.Command{
		Use:     "check",
		Short:   "Check the configuration and say what is wrong with it",
		Example: "  joingate config check --config joingate.toml",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			c, err := p.loadConfig()
			if err != nil {
				return err
			}
			if _, err := bandGroups(c); err != nil {
				return err
			}
			fmt.Fprintln(p.stdout, "configuration is good")
			return nil
		},
	}
	show := &cobra.Command{
		Use:     "print",
		Short:   "Print the configuration in force, with every key and what it does",
		Example: "  joingate config print > joingate.toml",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			c, err := p.loadConfig()
			if err != nil {
				return err
			}
			return c.WriteTOML(p.stdout)
		},
	}
	return group("config", "Check and print the configuration", check, show)
}
