package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"syscall"
)

// alertOf gives the alert by which the other side of a TLS connection broke it
// off, in the words of crypto/tls, which has no type for it that we can name.
func alertOf(err error) string {
	if op := (&net.OpError{}); errors.As(err, &op) && op.Op == "remote error" {
		return op.Err.Error()
	}
	return ""
}

// tlsRefused tells whether an error is that of a handshake or of its aftermath,
// and not of what the connection is for: TLS 1.3 tells a client only afterwards
// that its certificate is not taken, and may break off before that is read.
func tlsRefused(err error) bool {
	return alertOf(err) != "" || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// authorityHint adds to an error of an HTTP client how to trust the server.
func authorityHint(err error) error {
	if unknown := (x509.UnknownAuthorityError{}); errors.As(err, &unknown) {
		return fmt.Errorf("%w: if its authority is a private one, name its PEM file in SSL_CERT_FILE", err)
	}
	return err
}

// brokerHint adds to an error of a connection with TLS what the user of simulate
// can do about it.
func brokerHint(err error, shown bool) error {
	var unknown x509.UnknownAuthorityError
	switch {
	case errors.As(err, &unknown):
		return fmt.Errorf("%w: if its authority is a private one, name its PEM file with --tls-ca", err)
	case !tlsRefused(err):
		return err
	case shown:
		return fmt.Errorf("%w: the broker does not take the certificate: is it valid, and of an authority that the broker trusts?", err)
	default:
		return fmt.Errorf("%w: if the broker wants a client certificate, name it with --tls-cert and --tls-key", err)
	}
}
