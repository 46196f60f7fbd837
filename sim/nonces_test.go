package sim

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

// Devices that are made anew go on where the book says, the others draw as ever.
func TestNonceBook(t *testing.T) {
	book := NonceBook{0x77: 9} // a device that is not there this time
	var file bytes.Buffer
	for run := range uint16(3) {
		counting, drawing := testDevice(t, "1.0.4", "EU868"), testDevice(t, "1.0.3", "EU868")
		book.Reserve([]*Device{counting, drawing}, 5)
		file.Reset()
		if err := book.Write(&file); err != nil {
			t.Fatal(err)
		}
		if got, err := counting.takeDevNonce(); err != nil || got != 5*run {
			t.Errorf("run %d begins with %d, %v", run, got, err)
		}
		var err error
		if book, err = ReadNonces(&file); err != nil || len(book) != 2 || book[0x77] != 9 {
			t.Fatalf("%v, %v", book, err)
		}
	}
	last := testDevice(t, "1.0.4", "EU868")
	NonceBook{last.DevEUI(): noNonceLeft}.Reserve([]*Device{last}, 1)
	if _, err := last.takeDevNonce(); !errors.Is(err, ErrDevNonces) {
		t.Error(err)
	}
}

func TestReadNoncesErrors(t *testing.T) {
	const head = "dev_eui,next_dev_nonce\n"
	for in, want := range map[string]string{
		"":                                "line 1",
		"dev_eui,dev_nonce\n":             "line 1",
		head + "1,2\n":                    "line 2",
		head + "004a770066fffe01,65537\n": "line 2",
		head + "004a770066fffe01,-1\n":    "line 2",
		head + "004a770066fffe01\n":       "line 2",
	} {
		if _, err := ReadNonces(strings.NewReader(in)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", in, err)
		}
	}
}
