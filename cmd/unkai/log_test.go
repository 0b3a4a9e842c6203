package main

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

func TestLog(t *testing.T) {
	for _, test := range []struct {
		logging
		terminal bool
		want     string // of the entry
	}{
		{logging{"info", "auto"}, true, `level=INFO msg=hello took=1.5s` + "\n"},
		{logging{"info", "auto"}, false, `"level":"INFO","msg":"hello","took":"1.5s"}` + "\n"},
		{logging{"debug", "text"}, false, `level=INFO msg=hello took=1.5s` + "\n"},
		{logging{"info", "json"}, true, `"level":"INFO","msg":"hello","took":"1.5s"}` + "\n"},
		{logging{"warn", "json"}, true, ""},
	} {
		var b bytes.Buffer
		log, err := test.open(&b, test.terminal)
		if err != nil {
			t.Fatal(err)
		}
		log.Info("hello", "took", 1500*time.Millisecond)
		if got := b.String(); !strings.HasSuffix(got, test.want) || (got == "") != (test.want == "") {
			t.Errorf("%+v on a terminal %v: %q, want %q", test.logging, test.terminal, got, test.want)
		}
	}
	if _, err := (logging{level: "loud"}).open(nil, false); err == nil {
		t.Error("there is a level loud")
	}
}
