package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

type testPlan struct {
	ID       int64  `toml:"id"`
	Name     string `toml:"name"`
	Channels []struct {
		Frequency uint32 `toml:"frequency"`
	} `toml:"channels"`
}

func loadText(t *testing.T, text string) (Config, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "joingate.toml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return Load(file, nil)
}

func TestDecodeBandPlanGroups(t *testing.T) {
	c, err := loadText(t, `
[[band_plan_groups]]
id = 10000
name = "mine"
[[band_plan_groups.channels]]
frequency = 868100000
[[band_plan_groups.channels]]
frequency = 868300000
[[band_plan_groups]]
id = 10001
channels = [{frequency = 470300000}]
`)
	if err != nil {
		t.Fatal(err)
	}
	var plans []testPlan
	if err := c.DecodeBandPlanGroups(&plans); err != nil {
		t.Fatal(err)
	}
	if len(plans) != 2 || plans[0].Name != "mine" || len(plans[0].Channels) != 2 || plans[1].Channels[0].Frequency != 470300000 {
		t.Errorf("decoded %+v", plans)
	}
}

func TestDecodeBandPlanGroupsNone(t *testing.T) {
	var plans []testPlan
	if err := Default().DecodeBandPlanGroups(&plans); err != nil || plans != nil {
		t.Errorf("got %v, %v", plans, err)
	}
}

func TestDecodeBandPlanGroupsUnknownKey(t *testing.T) {
	c, err := loadText(t, "[[band_plan_groups]]\nid = 10000\nnmae = \"mine\"\n")
	if err != nil {
		t.Fatal(err)
	}
	var plans []testPlan
	if err := c.DecodeBandPlanGroups(&plans); err == nil || !strings.Contains(err.Error(), "nmae") {
		t.Errorf("error %v does not name the key", err)
	}
}

func TestPathsOfNetworkServersStartAtTheFile(t *testing.T) {
	c, err := parse("[backend]\nlisten = \":9443\"\ntls_cert = \"c\"\ntls_key = \"k\"\ntls_client_ca = \"ca\"\n[[network_servers]]\nname = \"ns\"\nkek_file = \"ns.kek\"\n")
	if err != nil {
		t.Fatal(err)
	}
	var servers []struct {
		Name    string `toml:"name"`
		KEKFile string `toml:"kek_file"`
	}
	if err := c.DecodeNetworkServers(&servers); err != nil {
		t.Fatal(err)
	}
	if len(servers) != 1 || servers[0].Name != "ns" || !filepath.IsAbs(servers[0].KEKFile) || filepath.Base(servers[0].KEKFile) != "ns.kek" {
		t.Errorf("decoded %+v", servers)
	}
}
