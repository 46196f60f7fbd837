package linkwan

import (
	"log"
	"net/http"
	"time"
)

// NewHTTPServer gives a server for the API that bounds what a slow or greedy
// client can hold: 5 s for the headers and for a TLS handshake, 15 s for a
// request, 30 s for the answer, 64 KiB of headers, the request line included.
// Faults of connections go to the log.
func NewHTTPServer(handler http.Handler, faults *log.Logger) *http.Server {
	return &http.Server{
		Handler: handler, ErrorLog: faults,
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 15 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute,
		MaxHeaderBytes: 64 << 10,
		// OPTIONS is refused like any other method that means nothing here.
		DisableGeneralOptionsHandler: true,
	}
}
