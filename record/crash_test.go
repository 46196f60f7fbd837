package record_test

import (
	"bufio"
	"context"
	"database/sql"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"testing"
	"time"

	"joingate/band"
	"joingate/joinserver"
	"joingate/record"
)

// With these two set, the test binary is the child that is killed.
const (
	crashPath  = "JOINGATE_TEST_CRASH_PATH"
	crashNonce = "JOINGATE_TEST_CRASH_NONCE" // the first DevNonce
)

const crashDevices = 64

// kill -9 at any moment: every join whose commit had returned is on record with
// its session, DevNonce and join event, and no JoinNonce is used twice.
func TestKilledWhileCommitting(t *testing.T) {
	w := newWorldWith(t, engine{"sqlite", newSQLite}, record.Options{Sinks: []string{"webhook"}})
	w.importNodes(t, w.r, band.MAC1_0_3, 0, crashDevices)
	seen := map[string]bool{} // DevEUI and JoinNonce of all grants
	for life := range 3 {
		grants := runUntilKilled(t, w.store.options.SQLitePath, 10_000*life, 150+100*life)
		db := w.store.raw(t)
		for _, g := range grants {
			if seen[g.device+" "+g.joinNonce] {
				t.Errorf("%s has got JoinNonce %s twice", g.device, g.joinNonce)
			}
			seen[g.device+" "+g.joinNonce] = true
			mustHold(t, db, g)
		}
		for i := range crashDevices { // the record works on, for a program that was there and for a new one
			w.mustJoin(t, devEUI(i), uint16(60_000+life))
		}
		if n := one[int](t, db, `SELECT (SELECT COUNT(*) FROM outbox) - (SELECT COUNT(*) FROM dev_nonces)`); n != 0 {
			t.Errorf("join events and DevNonces differ by %d", n)
		}
		if n := one[int](t, db, `SELECT (SELECT COUNT(*) FROM outbox) - (SELECT COUNT(*) FROM outbox_sinks)`); n != 0 {
			t.Errorf("the outboxes of two sinks differ by %d", n)
		}
		if n := one[int](t, db, `SELECT COUNT(*) FROM (SELECT dev_eui FROM outbox GROUP BY dev_eui HAVING COUNT(*) <> MAX(join_nonce)) AS gaps`); n != 0 {
			t.Errorf("%d devices have a gap in their JoinNonces", n)
		}
	}
}

// grantLine is a grant as the child printed it.
type grantLine struct{ device, devNonce, joinNonce, devAddr string }

func mustHold(t *testing.T, db *sql.DB, g grantLine) {
	t.Helper()
	devNonce := must[int](t)(strconv.Atoi(g.devNonce))
	joinNonce := must[int](t)(strconv.Atoi(g.joinNonce))
	if n := one[int](t, db, `SELECT COUNT(*) FROM dev_nonces WHERE dev_eui = $1 AND dev_nonce = $2`, g.device, devNonce); n != 1 {
		t.Errorf("DevNonce of %+v is not on record", g)
	}
	if n := one[int](t, db, `SELECT COUNT(*) FROM outbox WHERE dev_eui = $1 AND join_nonce = $2`, g.device, joinNonce); n != 1 {
		t.Errorf("join event of %+v is not on record", g)
	}
	if newest := one[int](t, db, `SELECT MAX(join_nonce) FROM sessions WHERE dev_eui = $1`, g.device); newest < joinNonce {
		t.Errorf("session of %+v is not on record: the newest is %d", g, newest)
	}
}

// runUntilKilled starts a child that commits, kills it once it has printed so
// many grants, and gives all that it printed.
func runUntilKilled(t *testing.T, path string, firstNonce, kill int) (grants []grantLine) {
	t.Helper()
	child := exec.Command(os.Args[0], "-test.run=^TestCrashChild$")
	child.Env = append(os.Environ(), crashPath+"="+path, crashNonce+"="+strconv.Itoa(firstNonce))
	child.Stderr = os.Stderr
	out := must[io.ReadCloser](t)(child.StdoutPipe())
	check(t, child.Start())
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		var g grantLine
		if n, err := fmt.Sscanf(lines.Text(), "grant %s %s %s %s", &g.device, &g.devNonce, &g.joinNonce, &g.devAddr); n != 4 {
			t.Logf("child says %q (%v)", lines.Text(), err)
			continue
		}
		grants = append(grants, g)
		if len(grants) == kill {
			check(t, child.Process.Kill())
		}
	}
	if err := child.Wait(); err == nil || len(grants) < kill {
		t.Fatalf("the child ended by itself after %d grants: %v", len(grants), err)
	}
	return grants
}

// TestCrashChild is no test of its own: it commits until it is killed.
func TestCrashChild(t *testing.T) {
	path := os.Getenv(crashPath)
	if path == "" {
		t.Skip("runs as the child of TestKilledWhileCommitting")
	}
	firstNonce := must[int](t)(strconv.Atoi(os.Getenv(crashNonce)))
	r := open(t, record.Options{SQLitePath: path, KEK: kekOf("test"), Sinks: []string{"webhook"}})
	p := place{gateway: gatewayID}
	var print sync.Mutex
	together(crashDevices, func(i int) {
		for devNonce := firstNonce; devNonce < firstNonce+10_000; devNonce++ {
			c := p.claim(t, r, devEUI(i), uint16(devNonce), time.Now())
			grant, err := r.Commit(context.Background(), c)
			if err != nil {
				t.Error(err)
				return
			}
			print.Lock()
			printGrant(c, grant)
			print.Unlock()
		}
	})
}

func printGrant(c joinserver.Claim, g joinserver.Grant) {
	fmt.Printf("grant %s %d %d %s\n", c.Request.DevEUI, c.Request.DevNonce, g.JoinNonce, g.DevAddr)
}
