package sim

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
)

// deviceColumns are those that a device file may have. The last two belong to
// `joingate node import`, so that one file serves both.
func deviceColumns() []string {
	return []string{"dev_eui", "app_key", "nwk_key", "mac_version", "join_eui", "region", "dev_nonce", "pin_code", "group"}
}

// ReadDevices reads a CSV file whose header names its columns in any order:
// dev_eui and app_key, and if wanted nwk_key, mac_version, join_eui, region and
// dev_nonce (the first one to use, in decimal; devices from 1.0.4 on need it when
// they come back). Empty cells take the value of defaults; each device draws from
// a source of its own, seeded from defaults.Rand if that is set. An error names
// line (the header is 1) and column.
func ReadDevices(r io.Reader, defaults DeviceConfig) ([]*Device, error) {
	in := csv.NewReader(r)
	in.TrimLeadingSpace = true
	header, err := in.Read()
	if err != nil {
		return nil, csvFault(err, "a header is missing; it begins dev_eui,app_key")
	}
	if err := checkHeader(header); err != nil {
		return nil, err
	}
	var devices []*Device
	lines := map[EUI]int{}
	for {
		record, err := in.Read()
		if errors.Is(err, io.EOF) {
			return devices, nil
		}
		if err != nil {
			return nil, csvFault(err, "")
		}
		line, _ := in.FieldPos(0)
		d, err := readDevice(header, record, defaults)
		if err != nil {
			return nil, fmt.Errorf("devices line %d, %w", line, err)
		}
		if first, ok := lines[d.DevEUI()]; ok {
			return nil, fmt.Errorf("devices line %d, column dev_eui: %s is in line %d already", line, d.DevEUI(), first)
		}
		lines[d.DevEUI()] = line
		devices = append(devices, d)
	}
}

// csvFault says where a file is no CSV, without repeating what is in it.
func csvFault(err error, atEnd string) error {
	var parse *csv.ParseError
	switch {
	case errors.Is(err, io.EOF):
		return fmt.Errorf("devices line 1: %s", atEnd)
	case errors.As(err, &parse):
		return fmt.Errorf("devices line %d: %w", parse.Line, parse.Err)
	}
	return fmt.Errorf("read devices: %w", err)
}

func checkHeader(header []string) error {
	for i, name := range header {
		name = strings.TrimSpace(strings.TrimPrefix(name, "\ufeff"))
		if !slices.Contains(deviceColumns(), name) {
			return fmt.Errorf("devices line 1: column %q is none of %s", name, strings.Join(deviceColumns(), ", "))
		}
		if slices.Contains(header[:i], name) {
			return fmt.Errorf("devices line 1: column %s is there twice", name)
		}
		header[i] = name
	}
	for _, name := range []string{"dev_eui", "app_key"} {
		if !slices.Contains(header, name) {
			return fmt.Errorf("devices line 1: column %s is missing", name)
		}
	}
	return nil
}

// readDevice makes a device of one line.
func readDevice(header, record []string, c DeviceConfig) (*Device, error) {
	c.DevEUI = 0
	for i, name := range header {
		cell := strings.TrimSpace(record[i])
		if cell == "" && name != "dev_eui" && name != "app_key" {
			continue
		}
		if err := c.set(name, cell); err != nil {
			return nil, fmt.Errorf("column %s: %w", name, err)
		}
	}
	if c.Rand != nil {
		c.Rand = rand.New(rand.NewPCG(c.Rand.Uint64(), uint64(c.DevEUI)))
	}
	d, err := NewDevice(c)
	if err != nil {
		return nil, fmt.Errorf("column %s: %w", blame(c), err)
	}
	return d, nil
}

func (c *DeviceConfig) set(column, cell string) (err error) {
	switch column {
	case "dev_eui":
		c.DevEUI, err = ParseEUI(cell)
	case "join_eui":
		c.JoinEUI, err = ParseEUI(cell)
	case "app_key":
		c.AppKey, err = ParseKey(cell)
	case "nwk_key":
		c.NwkKey, err = ParseKey(cell)
	case "mac_version":
		c.MACVersion = cell
	case "region":
		c.Region = cell
	case "dev_nonce":
		var n uint64
		if n, err = strconv.ParseUint(cell, 10, 16); err != nil {
			return fmt.Errorf("want 0 to 65535, have %q", cell)
		}
		c.FirstDevNonce = uint16(n)
	}
	return err
}

// blame names the column behind an error of NewDevice.
func blame(c DeviceConfig) string {
	if c.MACVersion != "" && !slices.Contains(versionNames(), c.MACVersion) {
		return "mac_version"
	}
	if _, err := RegionByName(c.Region); err != nil && c.Region != "" {
		return "region"
	}
	return "nwk_key"
}
