package cache

import (
	"crypto/tls"
	"slices"
	"strings"
	"testing"

	"joingate/keyring"
)

func TestParseAddress(t *testing.T) {
	for _, c := range []struct {
		url    string
		hosts  []string
		db     int
		master string
		user   string
		tls    bool
	}{
		{url: "redis://h", hosts: []string{"h:6379"}},
		{url: "redis://h:1/", hosts: []string{"h:1"}},
		{url: "redis://u@h:1/3", hosts: []string{"h:1"}, db: 3, user: "u"},
		{url: "redis://a%40b@h", hosts: []string{"h:6379"}, user: "a@b"},
		{url: "redis://[::1]", hosts: []string{"[::1]:6379"}},
		{url: "rediss://[::1]:7/0", hosts: []string{"[::1]:7"}, tls: true},
		{url: "redis://h?tls=true", hosts: []string{"h:6379"}, tls: true},
		{url: "redis-sentinel://h1:26379,h2/m", hosts: []string{"h1:26379", "h2:26379"}, master: "m"},
		{url: "redis-sentinel://h1/my-master?db=2&tls=true", hosts: []string{"h1:26379"}, master: "my-master", db: 2, tls: true},
		{url: "redis-cluster://h1:6379,h2:6380,[::1]", hosts: []string{"h1:6379", "h2:6380", "[::1]:6379"}},
		{url: "redis-cluster://u@h1/", hosts: []string{"h1:6379"}, user: "u"},
	} {
		got, err := parseAddress(Options{URL: c.url})
		if err != nil {
			t.Errorf("%s: %v", c.url, err)
			continue
		}
		if !slices.Equal(got.Addrs, c.hosts) || got.DB != c.db || got.MasterName != c.master || got.Username != c.user || (got.TLSConfig != nil) != c.tls {
			t.Errorf("%s: %v db %d master %q user %q tls %v", c.url, got.Addrs, got.DB, got.MasterName, got.Username, got.TLSConfig != nil)
		}
		if got.IsClusterMode != strings.HasPrefix(c.url, "redis-cluster") {
			t.Errorf("%s: cluster %v", c.url, got.IsClusterMode)
		}
	}
}

// Files for TLS must not be of no effect.
func TestTLSFilesWithoutTLS(t *testing.T) {
	for url, ok := range map[string]bool{
		"rediss://h": true, "redis-cluster://h?tls=true": true, "redis://h": false, "redis-sentinel://h/m": false,
	} {
		own := new(tls.Config)
		got, err := parseAddress(Options{URL: url, TLS: own})
		if (err == nil) != ok || ok && got.TLSConfig != own {
			t.Errorf("%s: %v", url, err)
		}
	}
}

func TestSentinelsMayWantThePasswordToo(t *testing.T) {
	o := Options{URL: "redis-sentinel://h/m", Username: "u", Password: keyring.NewSecret("pw")}
	plain, err1 := parseAddress(o)
	o.URL += "?sentinel_auth=true"
	both, err2 := parseAddress(o)
	if err1 != nil || err2 != nil || plain.SentinelPassword != "" || plain.Password != "pw" || both.SentinelPassword != "pw" || both.SentinelUsername != "u" {
		t.Errorf("%v %v", err1, err2)
	}
}

var wrongAddresses = strings.Fields(`memory: http://h redis: redis:// redis:h redis://h1,h2 rediss://h1,h2 redis://h/db redis://h/-1 redis://h:x redis://h:70000
	redis-sentinel://h1:26379 redis-sentinel://h1/ redis-sentinel://h1,,h2/m redis-cluster://h1/1 redis-cluster://h1:6379, redis://h?s3cret=1
	redis://h?s3cret redis://h?db=1 redis-sentinel://h/m?db=s3cret redis://u:s3cret@h redis://:s3cret@h redis://h?tls=s3cret redis://h?%zzs3cret
	redis://%zzs3cret@h redis://[s3cret redis://h:s3cret redis://h/s3cret redis-cluster://h?sentinel_auth=true`)

func TestWrongAddresses(t *testing.T) {
	for _, url := range wrongAddresses {
		_, err := Open(Options{URL: url, Sealer: new(keyring.Sealer)})
		if err == nil {
			t.Errorf("%s was taken", url)
			continue
		}
		if strings.Contains(err.Error(), "s3cret") || !strings.HasPrefix(err.Error(), "[cache] url: ") {
			t.Errorf("%s: %v", url, err)
		}
	}
	if _, err := Open(Options{URL: "redis://h"}); err == nil {
		t.Error("a cache without a sealer was opened")
	}
	if _, err := Open(Options{URL: "redis://h", Sealer: new(keyring.Sealer), KeyPrefix: "a{b"}); err == nil {
		t.Error("a key prefix that moves keys between nodes was taken")
	}
}

func FuzzParseAddress(f *testing.F) {
	for _, url := range wrongAddresses {
		f.Add(url)
	}
	f.Add("redis-sentinel://u@h1:26379,[::1]/m?db=2&tls=true")
	f.Fuzz(func(t *testing.T, url string) {
		o, err := parseAddress(Options{URL: url})
		if err == nil && len(o.Addrs) == 0 {
			t.Errorf("%q has no host", url)
		}
	})
}
