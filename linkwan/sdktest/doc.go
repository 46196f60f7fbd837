// Package sdktest drives every action of the admin API with Alibaba's official
// Go SDK against the real program. Run it with
//
//	cd linkwan/sdktest && go test .
//
// It builds ../../cmd/joingate, serves from a temporary folder on free ports, and
// downloads the SDK (175 MB) the first time.
package sdktest
