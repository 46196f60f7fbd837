package cache_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"joingate/band"
	"joingate/cache"
	"joingate/joinserver"
	"joingate/keyring"
)

func known(t *testing.T, from joinserver.Policies) bool {
	t.Helper()
	_, err := from.Policy(t.Context(), device)
	if err != nil && !errors.Is(err, joinserver.ErrUnknownDevice) {
		t.Fatal(err)
	}
	if p, ok := from.(cache.Policies); ok {
		cache.Settle(p)
	}
	return err == nil
}

// A stranger's device that joins every second does not reach the record each
// time; and nobody has to tell the cache when the device gets known.
func TestUnknownIsRememberedForAMoment(t *testing.T) {
	s := startServer(t)
	truth := newRecord(0)
	policies := cache.WithUnknownLife(openRedis(t, s.url()).Policies(truth), 300*time.Millisecond)
	known(t, policies)
	if eventually(t, func() bool { asked := truth.timesAsked(); known(t, policies); return truth.timesAsked() == asked }); known(t, policies) {
		t.Error("the device got known by itself")
	}
	truth.set(1) // by a command of the operator: nobody forgets
	eventually(t, func() bool { return known(t, policies) })
}

// The time counts from before the record was read. However long the reader or
// Redis is held up after that, it is not stretched.
func TestLateUnknownDoesNotCount(t *testing.T) {
	s := startServer(t)
	truth := newRecord(0)
	r := openRedis(t, s.url())
	policies := cache.WithUnknownLife(r.Policies(truth), 200*time.Millisecond)
	truth.once(func() {
		truth.set(1)
		eventually(t, func() bool { return r.Client().Exists(t.Context(), r.Key("{marks}:moment")).Val() == 0 })
		_, _ = policies.Policy(t.Context(), joinserver.EUI64{0xcc}) // another stranger begins the next moment
	})
	if known(t, policies) {
		t.Fatal("the slow read itself should say what it has read")
	}
	if !known(t, policies) {
		t.Error("a late refill made a known device unknown")
	}
}

func TestUnknownOfAnotherGenerationDoesNotCount(t *testing.T) {
	s := startServer(t)
	truth := newRecord(0)
	two := [2]cache.Policies{openRedis(t, s.url()).Policies(truth), openRedis(t, s.url()).Policies(truth)}
	truth.once(func() { truth.set(1); two[1].Forget() })
	if known(t, two[0]) {
		t.Fatal("the slow read itself should say what it has read")
	}
	if !known(t, two[0]) || !known(t, two[1]) {
		t.Error("a device that was made known and announced is still unknown")
	}
}

// What is in Redis is believed only as it was written, and where.
func TestWhatWasTamperedWithIsAMiss(t *testing.T) {
	s := startServer(t)
	truth := newRecord(1)
	var seen watch
	r := openRedis(t, s.url(), func(o *cache.Options) { o.Observe = seen.observe })
	policies := r.Policies(truth)
	expect(t, policies, 1)
	ctx, client := t.Context(), r.Client()
	policyKey, gatewayKey := r.Key("policy:")+device.String(), r.Key("gateway:")+gateway.String()
	policy, err := client.Get(ctx, policyKey).Bytes()
	if err != nil {
		t.Fatal(err)
	}
	truth.set(2)
	plant := func(what string, write func()) {
		t.Helper()
		write()
		if p, g := read(t, policies); p != 2 || g != 2 {
			t.Errorf("%s: versions %d and %d were believed", what, p, g)
		}
	}
	client.Del(ctx, gatewayKey)
	for i := range policy {
		damaged := append([]byte(nil), policy...)
		damaged[i] ^= 1
		plant("one bit changed", func() { client.Set(ctx, policyKey, damaged, 0) })
	}
	plant("cut short", func() { client.Set(ctx, policyKey, policy[:len(policy)-1], 0) })
	plant("empty", func() { client.Set(ctx, policyKey, "", 0) })
	plant("one letter", func() { client.Set(ctx, policyKey, "x", 0) })
	plant("another type", func() { client.Del(ctx, policyKey); client.RPush(ctx, policyKey, "x") })
	plant("moved", func() { client.Set(ctx, gatewayKey, policy, 0) })
	for _, mark := range []string{"{marks}:generation", "{marks}:moment"} {
		plant("a broken mark", func() { client.Set(ctx, r.Key(mark), "x", 0) })
		plant("a mark of another type", func() { client.Del(ctx, r.Key(mark)); client.RPush(ctx, r.Key(mark), "x") })
	}
	if seen.of(cache.Garbage) == 0 || seen.of(cache.Failed) != 0 {
		t.Errorf("garbage was counted %d times, failures %d times", seen.of(cache.Garbage), seen.of(cache.Failed))
	}
	truth.set(3)
	expect(t, policies, 2) // the cache has healed: it remembers again
}

// A value of another device under this one's key would otherwise open: its keys
// are another device's.
func TestAnotherDevicesPolicyIsAMiss(t *testing.T) {
	s := startServer(t)
	other := joinserver.EUI64{0xbb}
	truth := newRecord(1)
	truth.known[other] = 77
	r := openRedis(t, s.url())
	policies := r.Policies(truth)
	if _, err := policies.Policy(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	expect(t, policies, 1)
	stolen := r.Client().Get(t.Context(), r.Key("policy:")+other.String()).Val()
	r.Client().Set(t.Context(), r.Key("policy:")+device.String(), stolen, 0)
	if p, err := policies.Policy(t.Context(), device); err != nil || p.Node.DevEUI != device {
		t.Errorf("%v, %v", p, err)
	}
}

func TestAnotherKEKIsAMiss(t *testing.T) {
	s := startServer(t)
	truth := newRecord(1)
	expect(t, openRedis(t, s.url()).Policies(truth), 1)
	truth.set(2)
	stranger := openRedis(t, s.url(), func(o *cache.Options) { o.Sealer = sealerOf("other") })
	expect(t, stranger.Policies(truth), 2)
}

// TestNoKeyIsInRedis reads all that Redis holds.
func TestNoKeyIsInRedis(t *testing.T) {
	s := startServer(t)
	r := openRedis(t, s.url())
	policies := r.Policies(newRecord(1))
	expect(t, policies, 1)
	var held strings.Builder
	keys := r.Client().Keys(t.Context(), "*").Val()
	if len(keys) < 4 {
		t.Fatalf("Redis holds only %q", keys)
	}
	for _, key := range keys {
		held.WriteString(key + "\n" + r.Client().Dump(t.Context(), key).Val() + "\n")
	}
	for _, letter := range []byte("an") {
		key := octetsOf(letter)
		for name, text := range map[string]string{
			"raw": string(key), "hex": hex.EncodeToString(key), "base64": base64.RawStdEncoding.EncodeToString(key)[:20],
			"base64 for URLs": base64.RawURLEncoding.EncodeToString(key)[:20],
		} {
			if strings.Contains(strings.ToLower(held.String()), strings.ToLower(text)) {
				t.Errorf("a root key lies in Redis, %s", name)
			}
		}
	}
}

// Everything that is written has an end, but for two small keys.
func TestEverythingExpires(t *testing.T) {
	s := startServer(t)
	r := openRedis(t, s.url())
	ctx := t.Context()
	expect(t, r.Policies(newRecord(1)), 1)
	known(t, r.Policies(newRecord(0)))
	_, _ = r.Quotas(noQuotas{}).Take(ctx, "k", 1, time.Minute)
	_, _ = r.Copies().Claim(ctx, []byte("frame"))
	_ = r.Copies().Hand(ctx, []byte("frame"), []byte("copy"))
	r.DownlinkIDs().Next(ctx)
	frame := joinserver.Transmission{Start: time.Now().Add(time.Second), OnAir: time.Second, Duty: band.DutyCycle{Limit: time.Minute}}
	r.Airtime(cache.NewAirtime(time.Now)).Book(ctx, []joinserver.Transmission{frame})
	endless := map[string]bool{r.Key("{marks}:generation"): true, r.Key("downlink-ids"): true}
	keys := r.Client().Keys(ctx, "*").Val()
	for _, key := range keys {
		if ends := r.Client().TTL(ctx, key).Val() > 0; ends == endless[key] {
			t.Errorf("%s: ends is %v", key, ends)
		}
	}
	if len(keys) != 11 {
		t.Errorf("%q", keys)
	}
}

func TestACLUserAndTLS(t *testing.T) {
	folder, roots := certificate(t)
	tlsPort := freePort(t)
	s := startServer(t,
		"tls-port "+tlsPort, "tls-cert-file "+folder+"/cert.pem", "tls-key-file "+folder+"/key.pem", "tls-auth-clients no",
		"user joingate on >secret ~joingate:* +ping +get +set +del +eval +incr +incrby +select +lrange "+
			"+time +lindex +lpush +lpop +ltrim +pexpire +llen +rpush +evalsha +hget +hset +hsetnx +hmget +hincrby +hdel "+
			"+zadd +zrem +zcard +zscore +zrangebyscore +zremrangebyscore")
	url := "rediss://joingate@127.0.0.1:" + tlsPort
	open := func(password string) (*cache.Redis, *watch) {
		w := new(watch)
		return openRedis(t, url, func(o *cache.Options) {
			o.KeyPrefix, o.Password, o.TLS, o.Observe = "", keyring.NewSecret(password), &tls.Config{RootCAs: roots}, w.observe
		}), w
	}
	r, w := open("secret")
	ctx := t.Context()
	truth := newRecord(1)
	expect(t, r.Policies(truth), 1)
	truth.set(2)
	expect(t, r.Policies(truth), 1)
	r.Policies(truth).Forget()
	expect(t, r.Policies(truth), 2)
	taken, _ := r.Quotas(noQuotas{}).Take(ctx, "k", 1, time.Minute)
	mine, err1 := r.Copies().Claim(ctx, []byte("frame"))
	err2 := r.Copies().Hand(ctx, []byte("frame"), []byte("copy"))
	copies, err3 := r.Copies().Collect(ctx, []byte("frame"))
	r.DownlinkIDs().Next(ctx)
	airtime := r.Airtime(cache.NewAirtime(time.Now))
	limited := joinserver.Transmission{Start: time.Now().Add(time.Second), OnAir: time.Second, Duty: band.DutyCycle{Limit: time.Second}}
	airtime.Sent(ctx, limited)
	airtime.Release(ctx, limited)
	if airtime.Book(ctx, []joinserver.Transmission{limited, limited}) != 0 || len(s.do("KEYS", "joingate:air:*").([]any)) != 2 {
		t.Error("the user may not book airtime")
	}
	if !taken || !mine || len(copies) != 1 || errors.Join(err1, err2, err3) != nil || w.of(cache.Failed) != 0 || !r.Up() {
		t.Errorf("%v %v %q %v, %d failures", taken, mine, copies, errors.Join(err1, err2, err3), w.of(cache.Failed))
	}

	wrong, w := open("wrong")
	eventually(t, func() bool { expect(t, wrong.Policies(truth), 2); return !wrong.Up() })
	if w.of(cache.Hit) != 0 || w.of(cache.Failed) == 0 {
		t.Errorf("wrong password: %d hits, %d failures", w.of(cache.Hit), w.of(cache.Failed))
	}
}

// Redis may have a certificate of a private authority, and want one of us.
func TestPrivateAuthority(t *testing.T) {
	folder, roots := certificate(t)
	port := freePort(t)
	startServer(t, "tls-port "+port, "tls-cert-file "+folder+"/cert.pem", "tls-key-file "+folder+"/key.pem",
		"tls-ca-cert-file "+folder+"/cert.pem", "tls-auth-clients yes")
	own, err := tls.LoadX509KeyPair(folder+"/cert.pem", folder+"/key.pem")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		config *tls.Config
		ok     bool
	}{
		"authority and certificate": {&tls.Config{RootCAs: roots, Certificates: []tls.Certificate{own}}, true},
		"no certificate":            {&tls.Config{RootCAs: roots}, false},
		"unknown authority":         {&tls.Config{Certificates: []tls.Certificate{own}}, false},
		"nothing":                   {nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			r := openRedis(t, "rediss://127.0.0.1:"+port, func(o *cache.Options) { o.TLS = c.config })
			if _, err := r.Copies().Claim(t.Context(), []byte(name)); (err == nil) != c.ok {
				t.Errorf("%v", err)
			}
		})
	}
}

// A Redis that is not there is told of before anybody asks it.
func TestToldAtTheStart(t *testing.T) {
	told := make(chan error, 10)
	openRedis(t, "redis://127.0.0.1:1", func(o *cache.Options) { o.Report = func(err error) { told <- err } })
	select {
	case err := <-told:
		if err == nil || !strings.Contains(err.Error(), "refused") {
			t.Errorf("%v", err)
		}
	case <-time.After(time.Minute):
		t.Error("nobody was told")
	}
}

// Two installations on one Redis do not meet.
func TestKeyPrefix(t *testing.T) {
	s := startServer(t)
	for i, prefix := range []string{"", "other"} {
		truth := newRecord(int64(i + 1))
		r := openRedis(t, s.url(), func(o *cache.Options) { o.KeyPrefix = prefix })
		expect(t, r.Policies(truth), int64(i+1))
		if taken, err := r.Quotas(noQuotas{}).Take(t.Context(), "k", 1, time.Hour); !taken || err != nil {
			t.Error(taken, err)
		}
		keys := r.Client().Keys(t.Context(), "*").Val()
		for _, key := range keys {
			if !strings.HasPrefix(key, "joingate:") && !strings.HasPrefix(key, "other:") {
				t.Errorf("key %q", key)
			}
		}
	}
}

// certificate makes one for 127.0.0.1, signed by itself.
func certificate(t *testing.T) (folder string, roots *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err1 := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	private, err2 := x509.MarshalPKCS8PrivateKey(key)
	folder, roots = t.TempDir(), x509.NewCertPool()
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	roots.AppendCertsFromPEM(cert)
	err3 := os.WriteFile(filepath.Join(folder, "cert.pem"), cert, 0o600)
	err4 := os.WriteFile(filepath.Join(folder, "key.pem"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		t.Fatal(err)
	}
	return folder, roots
}
