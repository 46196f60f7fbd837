package record_test

import (
	"context"
	"database/sql"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"joingate/record"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
)

// cluster is a PostgreSQL of the tests' own, in a temporary folder, on a free port
// of the loopback interface.
type cluster struct {
	bin, folder, port string
	credential        *syscall.Credential // PostgreSQL does not run as root
	process           *exec.Cmd
	ended             chan error // of the process
	databases         atomic.Int64
	empty             chan string // databases that have the schema and no rows
}

// shared is the one that most tests use, each with a database of its own.
var shared struct {
	once    sync.Once
	cluster *cluster
	err     error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if shared.cluster != nil {
		shared.cluster.end(syscall.SIGQUIT)
		_ = os.RemoveAll(shared.cluster.folder)
	}
	os.Exit(code)
}

func sharedCluster(t testing.TB) *cluster {
	t.Helper()
	shared.once.Do(func() { shared.cluster, shared.err = startCluster() })
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	if shared.cluster == nil {
		t.Skip("PostgreSQL is not installed (/usr/lib/postgresql/*/bin): everything about it is left out")
	}
	return shared.cluster
}

// ownCluster is for tests that stop the server.
func ownCluster(t testing.TB, settings ...string) *cluster {
	t.Helper()
	c, err := startCluster(settings...)
	check(t, err)
	if c == nil {
		t.Skip("PostgreSQL is not installed (/usr/lib/postgresql/*/bin)")
	}
	t.Cleanup(func() {
		c.end(syscall.SIGQUIT)
		check(t, os.RemoveAll(c.folder))
	})
	return c
}

// startCluster gives nil where PostgreSQL is not installed.
func startCluster(settings ...string) (*cluster, error) {
	bins, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil || len(bins) == 0 {
		return nil, err
	}
	version := func(bin string) int {
		n, _ := strconv.Atoi(filepath.Base(filepath.Dir(bin)))
		return n
	}
	c := &cluster{
		bin:   slices.MaxFunc(bins, func(a, b string) int { return version(a) - version(b) }),
		empty: make(chan string, 1000),
	}
	if c.folder, err = os.MkdirTemp("", "joingate-postgres"); err != nil {
		return nil, err
	}
	if err := c.leaveRoot(); err != nil {
		return nil, err
	}
	if c.port, err = freePort(); err != nil {
		return nil, err
	}
	initdb := c.command("initdb", "--pgdata="+c.data(), "--username=joingate", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync")
	if said, err := initdb.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w: %s", err, said)
	}
	file, err := os.OpenFile(filepath.Join(c.data(), "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	settings = append([]string{
		"listen_addresses = '127.0.0.1'", "unix_socket_directories = ''", "port = " + c.port,
		"max_connections = 200", "shared_buffers = 32MB", "deadlock_timeout = 300ms", "autovacuum = off", "jit = off", "log_min_messages = panic",
		"dynamic_shared_memory_type = mmap", // in its folder, with which it goes
		"fsync = off",                       // nobody cuts the power: what a killed server wrote is with the kernel
	}, settings...)
	_, err = file.WriteString("\n" + strings.Join(settings, "\n") + "\n")
	if closing := file.Close(); err != nil || closing != nil {
		return nil, fmt.Errorf("postgresql.conf: %w, %w", err, closing)
	}
	return c, c.start()
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port, l.Close()
}

// leaveRoot makes root's clusters run as the user that the package came with.
func (c *cluster) leaveRoot() error {
	if os.Geteuid() != 0 {
		return nil
	}
	who, err := user.Lookup("postgres")
	if err != nil {
		return err
	}
	uid, _ := strconv.Atoi(who.Uid)
	gid, _ := strconv.Atoi(who.Gid)
	c.credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return os.Chown(c.folder, uid, gid)
}

func (c *cluster) data() string { return filepath.Join(c.folder, "data") }

func (c *cluster) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(c.bin, name), args...)
	cmd.Dir = c.folder
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: c.credential}
	return cmd
}

// start returns when the server takes connections. Where one was killed, it does
// not start before the last child of that has noticed.
func (c *cluster) start() error {
	for range 300 {
		c.process = c.command("postgres", "-D", c.data())
		if err := c.process.Start(); err != nil {
			return err
		}
		ended := make(chan error, 1)
		go func(process *exec.Cmd) { ended <- process.Wait() }(c.process)
		if c.ready(ended) {
			c.ended = ended
			return nil
		}
	}
	return fmt.Errorf("PostgreSQL does not start in %s", c.folder)
}

// ready waits until the server takes connections; false: it has ended.
func (c *cluster) ready(ended <-chan error) bool {
	for c.command("pg_isready", "-q", "-h", "127.0.0.1", "-p", c.port).Run() != nil {
		select {
		case <-ended:
			return false
		case <-time.After(30 * time.Millisecond): // the server tells nobody when it is
		}
	}
	return true
}

// kill is kill -9 for the server; its children notice.
func (c *cluster) kill() { c.end(syscall.SIGKILL) }

// end ends the server; with SIGQUIT at once too, but it leaves no shared memory
// behind.
func (c *cluster) end(by syscall.Signal) {
	_ = c.process.Process.Signal(by)
	<-c.ended
}

func (c *cluster) url(database string) string {
	return "postgres://joingate@127.0.0.1:" + c.port + "/" + database + "?sslmode=disable"
}

func (c *cluster) connect(t testing.TB, database string) *sql.DB {
	t.Helper()
	db := must[*sql.DB](t)(sql.Open("pgx", c.url(database)))
	t.Cleanup(func() { check(t, db.Close()) })
	return db
}

// newDatabase makes an empty one and gives its name.
func (c *cluster) newDatabase(t testing.TB) string {
	t.Helper()
	name := "record" + strconv.FormatInt(c.databases.Add(1), 10)
	must[sql.Result](t)(c.connect(t, "postgres").ExecContext(context.Background(), "CREATE DATABASE "+name))
	return name
}

// store is a record on a database of the cluster.
func (c *cluster) store(t testing.TB, database string) store {
	t.Helper()
	raw := sync.OnceValue(func() *sql.DB { return c.connect(t, database) })
	return store{
		options: record.Options{PostgresURL: c.url(database), KEK: kekOf("test")},
		raw:     func(testing.TB) *sql.DB { return raw() },
	}
}

// newPostgres gives an empty record with its schema. To make one takes half a
// second, so those of tests that are over are emptied and used again.
func newPostgres(t testing.TB) store {
	t.Helper()
	c := sharedCluster(t)
	var name string
	select {
	case name = <-c.empty:
	default:
		name = c.newDatabase(t)
		check(t, must[*record.Record](t)(record.Open(context.Background(), c.store(t, name).options)).Close())
	}
	t.Cleanup(func() {
		if !t.Failed() {
			emptyTables(t, c.store(t, name).raw(t))
			c.empty <- name
		}
	})
	return c.store(t, name)
}

func emptyTables(t testing.TB, db *sql.DB) {
	t.Helper()
	statements := "UPDATE revision SET value = 1000"
	for _, table := range tables {
		if table != "revision" {
			statements += "; DELETE FROM " + table
		}
	}
	must[sql.Result](t)(db.ExecContext(context.Background(), statements)) // one transaction
}
