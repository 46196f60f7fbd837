package main

import (
	"fmt"
	"strconv"

	"joingate/record"

	"github.com/spf13/cobra"
)

func (p *program) permissionCommand() *cobra.Command {
	return group("permission", "Set what the admin API has no parameter for", p.permissionSet())
}

func (p *program) permissionSet() *cobra.Command {
	var requireOwn bool
	c := &cobra.Command{
		Use:   "set JOINPERMISSIONID --require-own=true|false",
		Short: "Let a join permission insist on its own RxDelay and DataRate",
		Long: `Let a join permission insist on its own RxDelay and DataRate when another network
server asks for the join (TS002). Without it that server's values are used; with it
a request for other values is refused as wrong_parameters.`,
		Example: "  joingate permission set 1003 --require-own=true",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			id, err := strconv.ParseInt(args[0], 10, 64)
			if err != nil {
				return fmt.Errorf("JoinPermissionId %q is no number", args[0])
			}
			return p.change(c.Context(), "permission set", "join permission "+args[0], "is changed", func(tx *record.Tx) error {
				permission, err := tx.Permission(id)
				if err != nil {
					return err
				}
				permission.RequireOwn = requireOwn
				return tx.UpdatePermission(permission)
			})
		},
	}
	c.Flags().BoolVar(&requireOwn, "require-own", false, "whether network servers must use its RxDelay and DataRate")
	_ = c.MarkFlagRequired("require-own") // the flag is there
	return p.jsonFlag(c)
}
