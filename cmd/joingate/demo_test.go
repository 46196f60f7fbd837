package main

import (
	"os"
	"strings"
	"sync"
	"testing"
)

// Two at once, because each must find ports and a folder of its own.
func TestDemo(t *testing.T) {
	t.Parallel()
	temporary := t.TempDir()
	m := newMachine(t, "TMPDIR="+temporary)
	outcomes := make([]outcome, 2)
	var both sync.WaitGroup
	for i := range outcomes {
		both.Go(func() { outcomes[i] = m.try("demo") })
	}
	both.Wait()
	for _, o := range outcomes {
		if o.status != 0 {
			t.Errorf("exit status %d\n%s%s", o.status, o.stdout, o.stderr)
		}
		for _, says := range []string{
			"UpdateOwnedLocalJoinPermission RxDelay=5 DataRate=3",
			"Every device saw the new values: RxDelay 1 s -> 5 s, DataRate 0 -> 3.",
		} {
			if !strings.Contains(o.stdout, says) {
				t.Errorf("the output does not say %q:\n%s", says, o.stdout)
			}
		}
		if n := strings.Count(o.stdout, "1 s -> 5 s"); n != len(demoVersions)+1 {
			t.Errorf("%d lines tell of the new RxDelay, want one of each device and the last:\n%s", n, o.stdout)
		}
	}
	for _, dir := range []string{temporary, m.dir} {
		left, err := os.ReadDir(dir)
		check(t, err)
		if len(left) > 0 {
			t.Errorf("left behind in %s: %v", dir, left)
		}
	}
}
