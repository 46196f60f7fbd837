package config

import (
	"bytes"
	"fmt"

	"github.com/BurntSushi/toml"
)

// DecodeBandPlanGroups fills into, a pointer to a slice of structs with toml
// tags, with the operator's band plan groups. A key that the structs lack is an
// error that names it.
func (c Config) DecodeBandPlanGroups(into any) error {
	return decodeList("band_plan_groups", c.BandPlanGroups, into)
}

// DecodeNetworkServers does the same for the network servers of the Backend
// Interfaces. Keys that end in _file are paths, absolute by now.
func (c Config) DecodeNetworkServers(into any) error {
	return decodeList("network_servers", c.NetworkServers, into)
}

func decodeList(key string, list []map[string]any, into any) error {
	var text bytes.Buffer
	if err := toml.NewEncoder(&text).Encode(map[string]any{key: list}); err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	var tables map[string]toml.Primitive
	meta, err := toml.Decode(text.String(), &tables)
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	primitive, ok := tables[key]
	if !ok {
		return nil
	}
	if err := meta.PrimitiveDecode(primitive, into); err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	if unknown := meta.Undecoded(); len(unknown) > 0 {
		return fmt.Errorf("%s: unknown key %q", key, unknown[0].String())
	}
	return nil
}
