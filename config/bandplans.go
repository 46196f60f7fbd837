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
	var text bytes.Buffer
	if err := toml.NewEncoder(&text).Encode(map[string]any{"band_plan_groups": c.BandPlanGroups}); err != nil {
		return fmt.Errorf("band_plan_groups: %w", err)
	}
	var tables map[string]toml.Primitive
	meta, err := toml.Decode(text.String(), &tables)
	if err != nil {
		return fmt.Errorf("band_plan_groups: %w", err)
	}
	list, ok := tables["band_plan_groups"]
	if !ok {
		return nil
	}
	if err := meta.PrimitiveDecode(list, into); err != nil {
		return fmt.Errorf("band_plan_groups: %w", err)
	}
	if unknown := meta.Undecoded(); len(unknown) > 0 {
		return fmt.Errorf("band_plan_groups: unknown key %q", unknown[0].String())
	}
	return nil
}
