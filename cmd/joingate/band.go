package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"

	"joingate/band"

	"github.com/spf13/cobra"
)

func (p *program) bandCommand() *cobra.Command {
	list := p.jsonFlag(&cobra.Command{
		Use:     "list",
		Short:   "List the frequency band plan groups in force",
		Example: "  joingate band list\n  joingate band list --json",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			groups, err := p.groups()
			if err != nil {
				return err
			}
			return p.print(groups.List(), func(w io.Writer) { printGroups(w, groups.List()) })
		},
	})
	show := p.jsonFlag(&cobra.Command{
		Use:     "show GROUP",
		Short:   "Show one group: join channels, receive windows, data rates, CFLists",
		Example: "  joingate band show 101\n  joingate band show US915-FSB2 --json",
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			groups, err := p.groups()
			if err != nil {
				return err
			}
			g, err := findGroup(groups, args[0])
			if err != nil {
				return err
			}
			return p.print(g.Describe(), func(w io.Writer) { printGroup(w, g.Describe()) })
		},
	})
	return group("band", "Show the frequency band plan groups", list, show)
}

func (p *program) groups() (*band.Groups, error) {
	c, err := p.loadConfig()
	if err != nil {
		return nil, err
	}
	return bandGroups(c)
}

// findGroup takes a group's number or name.
func findGroup(groups *band.Groups, text string) (*band.Group, error) {
	if id, err := strconv.ParseInt(text, 10, 64); err == nil {
		if g, ok := groups.Find(band.GroupID(id)); ok {
			return g, nil
		}
	}
	for _, g := range groups.All() {
		if strings.EqualFold(g.Name, text) {
			return g, nil
		}
	}
	return nil, fmt.Errorf("band plan group %q is unknown: joingate band list shows them all", text)
}

func printGroups(w io.Writer, list []band.Summary) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "GROUP\tNAME\tREGION")
	for _, g := range list {
		fmt.Fprintf(t, "%d\t%s\t%s\n", g.Group, g.Name, g.Region)
	}
	_ = t.Flush()
}

func printGroup(w io.Writer, d band.Description) {
	fmt.Fprintf(w, "%d %s (%s)\n\n", d.Group, d.Name, d.Region)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "JOIN CHANNEL\tDATA RATES\tRX1\tRX2\tEIRP")
	for _, c := range d.JoinChannels {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s DR%d\t%d dBm\n", c.Frequency, rateRange(c.DataRates), rx1(c.RX1), c.RX2.Frequency, c.RX2.DataRate, c.Power)
	}
	fmt.Fprintln(t, "\nLORAWAN\tCFLIST")
	for v := band.MAC1_0_0; v <= band.MAC1_1; v++ {
		if list, ok := d.CFList[v.String()]; ok {
			fmt.Fprintf(t, "%s\t%s\n", v, orNone(list))
		}
	}
	_ = t.Flush()
}

func rateRange(rates []int) string {
	if len(rates) == 0 {
		return ""
	}
	return fmt.Sprintf("DR%d-%d", rates[0], rates[len(rates)-1])
}

// rx1 gives the first and the last answer; those between lie between.
func rx1(windows []band.RX1Description) string {
	if len(windows) == 0 {
		return "none"
	}
	first, last := windows[0], windows[len(windows)-1]
	return fmt.Sprintf("%s DR%d-%d", first.Frequency, first.DataRate, last.DataRate)
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}
