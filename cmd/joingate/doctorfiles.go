package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"joingate/keyring"
)

// What the disk under the record should do. A join waits for one sync.
const (
	syncTries     = 20
	slowSync      = 20 * time.Millisecond
	tooSlowSync   = 500 * time.Millisecond
	littleSpace   = 1 << 30   // octets
	tooLittle     = 100 << 20 // octets
	certWarning   = 30 * 24 * time.Hour
	sqliteHeading = "SQLite format 3\x00"
)

// disk measures the syncs of data_dir, and its free space.
func (d *doctor) disk(context.Context) {
	dir := d.config.DataDir
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		d.ok("disk", "%s is not there yet; the first start makes it", dir)
		return
	}
	if err != nil || !info.IsDir() {
		d.fail("disk", "correct data_dir", "%s is no folder that can be looked at (%v)", dir, err)
		return
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		d.warn("disk", "chmod 0700 "+dir, "%s can be looked into by others (mode %04o)", dir, mode)
	}
	took, err := syncTime(dir)
	switch {
	case err != nil:
		d.fail("disk", "let the user that runs joingate write there", "nothing can be written to %s: %v", dir, err)
	case took > tooSlowSync:
		d.fail("disk", "put data_dir on a local disk that is not worn out", "a sync takes %s: each join waits for one", took)
	case took > slowSync:
		d.warn("disk", "an SSD with power-loss protection takes under 1 ms", "a sync takes %s: each join waits for one", took)
	default:
		d.ok("disk", "a sync in %s takes %s", dir, took)
	}
	d.space(dir)
}

// syncTime is the median time of a small write that is synced.
func syncTime(dir string) (time.Duration, error) {
	file, err := os.CreateTemp(dir, ".doctor-*")
	if err != nil {
		return 0, err
	}
	defer os.Remove(file.Name())
	defer func() { _ = file.Close() }()
	var times []time.Duration
	for range syncTries {
		start := time.Now()
		if _, err := file.Write(make([]byte, 4096)); err != nil {
			return 0, err
		}
		if err := file.Sync(); err != nil {
			return 0, err
		}
		times = append(times, time.Since(start))
	}
	slices.Sort(times)
	return times[syncTries/2].Round(time.Microsecond), nil
}

func (d *doctor) space(dir string) {
	free, kind, err := freeSpace(dir)
	switch {
	case err != nil:
		d.warn("disk", "", "free space cannot be told: %v", err)
	case free < tooLittle:
		d.fail("disk", "make room: on a full disk no join is answered", "%d MB are free under %s", free>>20, dir)
	case free < littleSpace:
		d.warn("disk", "make room: on a full disk no join is answered", "%d MB are free under %s", free>>20, dir)
	default:
		d.ok("disk", "%d GB are free", free>>30)
	}
	if _, embedded := d.config.Record.SQLitePath(dir); embedded && kind != "" {
		d.fail("disk", "put data_dir on a local disk, or use PostgreSQL", "%s is on %s: a record there is not durable", dir, kind)
	}
}

// keyFile looks at mode, owner and content of the file that seals root keys.
func (d *doctor) keyFile(context.Context) {
	const check = "key file"
	if len(d.config.Keys.KEKCommand) > 0 {
		d.ok(check, "the key comes from a command, which was not run")
		return
	}
	path := d.config.Keys.KEKPath(d.config.DataDir)
	if strings.HasPrefix(path, "/dev/fd/") {
		d.ok(check, "the key comes from a file descriptor of serve, which is not here")
		return
	}
	info, err := os.Stat(path)
	database, embedded := d.config.Record.SQLitePath(d.config.DataDir)
	switch {
	case errors.Is(err, fs.ErrNotExist) && embedded && !exists(database):
		d.ok(check, "%s is not there yet; the first start makes it", path)
		return
	case errors.Is(err, fs.ErrNotExist):
		d.fail(check, "put back the file that the record was sealed with", "%s is missing", path)
		return
	case err != nil:
		d.fail(check, "let the user that runs joingate read it", "%v", err)
		return
	}
	if _, err := keyring.LoadKEK(path, false); err != nil {
		d.fail(check, "put back the file that the record was sealed with, readable for the user that runs joingate", "%v", err)
		return
	}
	if mode := info.Mode().Perm(); mode&0o007 != 0 {
		d.fail(check, "chmod 0600 "+path, "everybody on this machine can read %s (mode %04o)", path, mode)
	} else if mode&0o070 != 0 {
		d.warn(check, "chmod 0600 "+path+", unless the group is there for it, as in Kubernetes", "a group can read %s (mode %04o)", path, mode)
	} else {
		d.ok(check, "%s has mode %04o", path, mode)
	}
	if owner, known := ownerOf(info); known && owner != os.Geteuid() && os.Geteuid() != 0 {
		d.warn(check, "run joingate doctor as the user that runs joingate", "%s belongs to user %d, this is user %d", path, owner, os.Geteuid())
	}
}

// secretFiles looks at password files and private keys.
func (d *doctor) secretFiles(context.Context) {
	c := d.config
	files := map[string]string{
		"record.password_file": c.Record.PasswordFile, "cache.password_file": c.Cache.PasswordFile, "mqtt.password_file": c.MQTT.PasswordFile,
		"mqtt.embedded_users_file": c.MQTT.EmbeddedUsersFile, "events.webhook_secret_file": c.Events.WebhookSecretFile,
		"cache.tls_key": c.Cache.TLSKey, "mqtt.tls_key": c.MQTT.TLSKey, "mqtt.embedded_tls_key": c.MQTT.EmbeddedTLSKey,
		"api.tls_key": c.API.TLSKey, "ops.tls_key": c.Ops.TLSKey, "backend.tls_key": c.Backend.TLSKey,
	}
	for key, path := range sorted(files) {
		if path == "" {
			continue
		}
		info, err := os.Stat(path)
		if err == nil {
			err = canRead(path)
		}
		switch {
		case err != nil:
			d.fail("secrets", "correct "+key+", or let the user that runs joingate read the file", "%s: %v", key, err)
		case info.Mode().Perm()&0o007 != 0:
			d.warn("secrets", "chmod 0600 "+path, "%s: everybody on this machine can read %s (mode %04o)", key, path, info.Mode().Perm())
		default:
			d.ok("secrets", "%s has mode %04o", key, info.Mode().Perm())
		}
	}
}

func canRead(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	return file.Close()
}

// certificates looks at every file with certificates that is named.
func (d *doctor) certificates(context.Context) {
	c := d.config
	for key, pair := range sorted(map[string][2]string{
		"api.tls_cert": {c.API.TLSCert, c.API.TLSKey}, "ops.tls_cert": {c.Ops.TLSCert, c.Ops.TLSKey},
		"backend.tls_cert": {c.Backend.TLSCert, c.Backend.TLSKey}, "cache.tls_cert": {c.Cache.TLSCert, c.Cache.TLSKey},
		"mqtt.tls_cert": {c.MQTT.TLSCert, c.MQTT.TLSKey}, "mqtt.embedded_tls_cert": {c.MQTT.EmbeddedTLSCert, c.MQTT.EmbeddedTLSKey},
	}) {
		if pair[0] == "" {
			continue
		}
		if _, err := tls.LoadX509KeyPair(pair[0], pair[1]); err != nil {
			d.fail("certificates", "give certificate and key that belong together", "%s: %v", key, err)
			continue
		}
		d.dates(key, pair[0])
	}
	for key, file := range sorted(map[string]string{
		"backend.tls_client_ca": c.Backend.TLSClientCA, "cache.tls_ca": c.Cache.TLSCA, "mqtt.tls_ca": c.MQTT.TLSCA,
		"mqtt.embedded_tls_client_ca": c.MQTT.EmbeddedTLSClientCA, "events.webhook_ca": c.Events.WebhookCA,
	}) {
		if file != "" {
			d.dates(key, file)
		}
	}
	if c.Backend.TLSClientCRL != "" {
		d.revocations(c.Backend.TLSClientCRL)
	}
}

// dates checks when the certificates of a PEM file are valid.
func (d *doctor) dates(key, file string) {
	list, err := readCertificates(file)
	if err != nil {
		d.fail("certificates", "correct the file", "%s: %v", key, err)
		return
	}
	for _, c := range list {
		name := fmt.Sprintf("%s: certificate %q", key, c.Subject.CommonName)
		left := c.NotAfter.Sub(d.now())
		switch {
		case d.now().Before(c.NotBefore):
			d.fail("certificates", "look at this machine's clock", "%s is valid from %s on", name, c.NotBefore.Format(time.DateOnly))
		case left <= 0:
			d.fail("certificates", "renew it; a server that runs takes the new files by itself", "%s has expired on %s", name, c.NotAfter.Format(time.DateOnly))
		case left < certWarning:
			d.warn("certificates", "renew it; a server that runs takes the new files by itself", "%s expires on %s", name, c.NotAfter.Format(time.DateOnly))
		default:
			d.ok("certificates", "%s is valid until %s", name, c.NotAfter.Format(time.DateOnly))
		}
	}
}

func readCertificates(file string) (list []*x509.Certificate, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		list = append(list, c)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%s holds no certificate in PEM form", file)
	}
	return list, nil
}

func (d *doctor) revocations(file string) {
	text, err := os.ReadFile(file)
	if block, _ := pem.Decode(text); block != nil {
		text = block.Bytes
	}
	var list *x509.RevocationList
	if err == nil {
		list, err = x509.ParseRevocationList(text)
	}
	switch {
	case err != nil:
		d.fail("certificates", "correct the file", "backend.tls_client_crl: %v", err)
	case !list.NextUpdate.IsZero() && list.NextUpdate.Before(d.now()):
		d.warn("certificates", "fetch the authority's new list", "backend.tls_client_crl was to be replaced by %s", list.NextUpdate.Format(time.DateOnly))
	default:
		d.ok("certificates", "backend.tls_client_crl names %d revoked certificates", len(list.RevokedCertificateEntries))
	}
}

// database looks at the record from outside. It does not open it as the server
// does: that would bring its schema up to date.
func (d *doctor) database(ctx context.Context) {
	path, embedded := d.config.Record.SQLitePath(d.config.DataDir)
	if !embedded {
		d.postgres(ctx)
		return
	}
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		d.ok("record", "%s is not there yet; the first start makes it", path)
		return
	}
	heading := make([]byte, len(sqliteHeading))
	if err == nil {
		_, err = io.ReadFull(file, heading)
		_ = file.Close()
	}
	switch {
	case err != nil:
		d.fail("record", "let the user that runs joingate read it", "%s: %v", path, err)
		return
	case !bytes.Equal(heading, []byte(sqliteHeading)):
		d.fail("record", "put the backup in place", "%s is no SQLite database", path)
		return
	}
	if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o077 != 0 {
		d.warn("record", "chmod 0600 "+path+"*", "others can read %s (mode %04o)", filepath.Base(path), info.Mode().Perm())
	}
	d.ok("record", "%s is a SQLite database%s", path, d.rowsLeftOut())
}

// rowsLeftOut says that the record itself is still to be looked at, if it is.
func (d *doctor) rowsLeftOut() string {
	if d.rowsToo {
		return ""
	}
	return "; it was not opened: --record"
}
