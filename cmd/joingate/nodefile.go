package main

import (
	"encoding/csv"
	"errors"
	"io"

	"joingate/band"
	"joingate/joinserver"
	"joingate/keyring"
	"joingate/record"
)

// nodeColumns are the columns of a node file; the first two are required.
var nodeColumns = []string{"dev_eui", "app_key", "nwk_key", "pin_code", "mac_version", "group"}

// fileNode is a line of a node file.
type fileNode struct {
	line  int
	group string // NodeGroupName, "" for none
	record.NewNode
}

// readNodes reads a node file. It returns all mistakes, with line and column.
func readNodes(from io.Reader) (list []fileNode, err error) {
	t, err := newTable(from, nodeColumns[:2], nodeColumns[2:])
	if err != nil {
		return nil, err
	}
	seen := make(map[joinserver.EUI64]int)
	for t.next() {
		n := fileNode{line: t.line, group: t.text("group")}
		n.DevEUI = cell(t, "dev_eui", joinserver.ParseEUI64)
		n.Keys.App = cell(t, "app_key", keyring.ParseKey)
		n.Keys.Nwk = cell(t, "nwk_key", orEmpty(keyring.ParseKey))
		n.PinCode = cell(t, "pin_code", orEmpty(pinCode))
		n.MACVersion = cell(t, "mac_version", orEmpty(band.ParseMACVersion))
		t.unique(seen, "dev_eui", n.DevEUI)
		t.checkVersion(&n)
		list = append(list, n)
	}
	return list, t.err()
}

// checkVersion sets the version that the keys show, and tells of one that does
// not go with them: a 1.1 device has two root keys, an older one has one.
func (t *table) checkVersion(n *fileNode) {
	hasNwk := t.text("nwk_key") != ""
	switch {
	case n.MACVersion == 0 && t.text("mac_version") != "": // told already
	case n.MACVersion == 0 && hasNwk:
		n.MACVersion = band.MAC1_1
	case n.MACVersion == 0:
		n.MACVersion = band.MAC1_0_3
	case n.MACVersion == band.MAC1_1 && !hasNwk:
		t.mistake("nwk_key", "a 1.1 device has both keys")
	case n.MACVersion < band.MAC1_1 && hasNwk:
		t.mistake("nwk_key", "a %s device has an app_key only", n.MACVersion)
	}
}

// nodeWriter writes the same form.
type nodeWriter struct {
	*csv.Writer
	withKeys bool
}

func newNodeWriter(to io.Writer, withKeys bool) (nodeWriter, error) {
	w := nodeWriter{csv.NewWriter(to), withKeys}
	if withKeys {
		return w, w.Write(nodeColumns)
	}
	return w, w.Write([]string{"dev_eui", "mac_version", "group"})
}

func (w nodeWriter) write(n record.Node) error {
	if w.withKeys {
		return w.Write([]string{n.DevEUI.String(), n.Keys.App.RevealHex(), n.Keys.Nwk.RevealHex(), n.PinCode, n.MACVersion.String(), n.Group})
	}
	return w.Write([]string{n.DevEUI.String(), n.MACVersion.String(), n.Group})
}

func (w nodeWriter) end() error {
	w.Flush()
	return w.Error()
}

var errNoGroupWithoutAccount = errors.New("a node in stock is in no group: name the account with --account")
