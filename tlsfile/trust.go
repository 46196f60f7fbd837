package tlsfile

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"
)

// trust is what client certificates are held against.
type trust struct {
	pool        *x509.CertPool
	authorities []*x509.Certificate // those of the pool
	listed      bool                // there is a file of revocation lists
	lists       map[string]list     // by the raw subject of the authority
}

// list is the revocation list of one authority.
type list struct {
	issuer     string
	thisUpdate time.Time
	nextUpdate time.Time
	revoked    map[string]bool // by serial number
}

func watchTrust(clientCA, crl string, o Options) (*watched[trust], error) {
	files := []string{clientCA}
	if crl != "" {
		files = append(files, crl)
	}
	return watch(o.Report, func() (trust, error) { return readTrust(clientCA, crl, o.Now()) }, files...)
}

// readTrust reads authorities and revocation lists. A list that is not signed by
// one of the authorities, or whose time is over, is an error: an operator who
// gave it believes it to be in force.
func readTrust(clientCA, crl string, now time.Time) (trust, error) {
	authorities, err := readCertificates(clientCA)
	if err != nil {
		return trust{}, fmt.Errorf("authorities of client certificates: %w", err)
	}
	t := trust{pool: poolOf(authorities), authorities: authorities, listed: crl != "", lists: map[string]list{}}
	if !t.listed {
		return t, nil
	}
	text, err := os.ReadFile(crl)
	if err != nil {
		return trust{}, fmt.Errorf("revocation lists: %w", err)
	}
	for _, der := range listsIn(text) {
		if err := t.add(der, authorities, now); err != nil {
			return trust{}, fmt.Errorf("revocation list in %s: %w", crl, err)
		}
	}
	if len(t.lists) == 0 {
		return trust{}, fmt.Errorf("%s holds no revocation list", crl)
	}
	return t, nil
}

// listsIn gives the revocation lists of a PEM file, or the one of a DER file.
func listsIn(text []byte) [][]byte {
	if found := blocks(text, "X509 CRL"); found != nil || len(text) == 0 {
		return found
	}
	return [][]byte{text}
}

// blocks gives the contents of the PEM blocks of one type.
func blocks(text []byte, kind string) (found [][]byte) {
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			return found
		}
		if block.Type == kind {
			found = append(found, block.Bytes)
		}
	}
}

// add checks one list. Of two lists of one authority the newer counts.
func (t *trust) add(der []byte, authorities []*x509.Certificate, now time.Time) error {
	parsed, err := x509.ParseRevocationList(der)
	if err != nil {
		return err
	}
	if err := understood(parsed); err != nil {
		return err
	}
	if err := signedByOne(parsed, authorities); err != nil {
		return err
	}
	l := list{issuer: parsed.Issuer.String(), thisUpdate: parsed.ThisUpdate, nextUpdate: parsed.NextUpdate, revoked: map[string]bool{}}
	if err := l.fresh(now); err != nil {
		return err
	}
	for _, entry := range parsed.RevokedCertificateEntries {
		l.revoked[entry.SerialNumber.String()] = true
	}
	if known, twice := t.lists[string(parsed.RawIssuer)]; !twice || known.thisUpdate.Before(l.thisUpdate) {
		t.lists[string(parsed.RawIssuer)] = l
	}
	return nil
}

// understood refuses lists that say of themselves that they are not the whole
// truth: RFC 5280, section 5.2, forbids the use of a list with a critical
// extension that is not understood. Delta lists and lists for a part of the
// certificates have one.
func understood(l *x509.RevocationList) error {
	for _, e := range l.Extensions {
		if e.Critical {
			return fmt.Errorf("critical extension %s is not understood: give a complete list of one authority", e.Id)
		}
	}
	for _, entry := range l.RevokedCertificateEntries {
		for _, e := range entry.Extensions {
			if e.Critical {
				return fmt.Errorf("critical extension %s of an entry is not understood: give a complete list of one authority", e.Id)
			}
		}
	}
	return nil
}

func signedByOne(l *x509.RevocationList, authorities []*x509.Certificate) error {
	err := errors.New("its certificate is not among the authorities of client certificates")
	for _, a := range authorities {
		if string(a.RawSubject) != string(l.RawIssuer) {
			continue
		}
		if err = l.CheckSignatureFrom(a); err == nil {
			return nil
		}
	}
	return fmt.Errorf("issuer %s: %w", l.Issuer, err)
}

// fresh refuses a list whose time is over, and one that names no end: it would
// be believed for ever.
func (l list) fresh(now time.Time) error {
	if l.nextUpdate.IsZero() {
		return fmt.Errorf("the list of %s has no next update", l.issuer)
	}
	if now.After(l.nextUpdate) {
		return fmt.Errorf("the list of %s was to be replaced by %s: fetch the new one", l.issuer, l.nextUpdate.UTC().Format(time.RFC3339))
	}
	return nil
}

// chains gives the ways from the client's certificate to an authority. What the
// handshake found counts while its authority is one; after that, another may have
// taken its place under the same key.
func (t trust) chains(state *tls.ConnectionState, now time.Time) ([][]*x509.Certificate, error) {
	gone := func(chain []*x509.Certificate) bool {
		return !slices.ContainsFunc(t.authorities, chain[len(chain)-1].Equal)
	}
	if found := slices.DeleteFunc(slices.Clone(state.VerifiedChains), gone); len(found) > 0 {
		return found, nil
	}
	return state.PeerCertificates[0].Verify(x509.VerifyOptions{
		Roots: t.pool, Intermediates: poolOf(state.PeerCertificates[1:]), CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
}

// check goes through a verified chain, the client's own certificate first and the
// authority last. The client's certificate needs a list, also when it is its own
// authority; one in between is held against a list where there is one.
func (t trust) check(chain []*x509.Certificate, now time.Time) error {
	for _, c := range chain {
		if now.After(c.NotAfter) {
			return fmt.Errorf("certificate of %s ended at %s", c.Subject, c.NotAfter.UTC().Format(time.RFC3339))
		}
	}
	if !t.listed {
		return nil
	}
	for i, c := range chain[:max(1, len(chain)-1)] {
		l, known := t.lists[string(c.RawIssuer)]
		if !known && i > 0 {
			continue
		}
		if !known {
			return fmt.Errorf("there is no revocation list of %s", c.Issuer)
		}
		if err := l.fresh(now); err != nil {
			return err
		}
		if l.revoked[c.SerialNumber.String()] {
			return fmt.Errorf("certificate of %s with serial number %s is revoked", c.Subject, c.SerialNumber)
		}
	}
	return nil
}
