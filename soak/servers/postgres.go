package servers

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Postgres is a PostgreSQL of its own. Joingate is its user Role, who is no
// superuser, and owns the database Database.
type Postgres struct {
	*Process
	bin, folder, port string
	as                *syscall.Credential // PostgreSQL does not run as root
}

// Names in every Postgres.
const (
	Role     = "gate"
	Database = "joins"
	operator = "operator" // the superuser
)

// NewPostgres makes a cluster in the folder, with further settings such as
// "max_connections=60", starts it, and makes user and database. The folder becomes
// that of the user whom PostgreSQL runs as.
func NewPostgres(folder string, settings ...string) (*Postgres, error) {
	bins, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil || len(bins) == 0 {
		return nil, NotInstalled{"PostgreSQL", "postgresql"}
	}
	p := &Postgres{bin: slices.MaxFunc(bins, func(a, b string) int { return release(a) - release(b) }), folder: folder}
	if p.port, err = FreePort(); err != nil {
		return nil, err
	}
	if p.as, err = unprivileged(folder); err != nil {
		return nil, err
	}
	initdb := p.command("initdb", "--pgdata="+p.data(), "--username="+operator, "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync")
	if said, err := initdb.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w: %s", err, said)
	}
	args := []string{"-D", p.data(), "-p", p.port}
	// With its commit times the database itself tells which commit was when.
	for _, setting := range append([]string{"listen_addresses=127.0.0.1", "unix_socket_directories=", "track_commit_timestamp=on", "jit=off"}, settings...) {
		args = append(args, "-c", setting)
	}
	p.Process = NewProcess("postgres", func() *exec.Cmd { return p.command("postgres", args...) }, p.answers, syscall.SIGINT)
	if err := p.Process.Start(); err != nil {
		return nil, err
	}
	_, err = p.ask("postgres", "CREATE ROLE "+Role+" LOGIN", "CREATE DATABASE "+Database+" OWNER "+Role)
	return p, err
}

// release is the 15 of /usr/lib/postgresql/15/bin.
func release(bin string) int {
	n, _ := strconv.Atoi(filepath.Base(filepath.Dir(bin)))
	return n
}

// unprivileged is whom root runs PostgreSQL as; the folder becomes theirs.
func unprivileged(folder string) (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	who, err := user.Lookup("postgres")
	if err != nil {
		return nil, err
	}
	uid, err1 := strconv.Atoi(who.Uid)
	gid, err2 := strconv.Atoi(who.Gid)
	if err1 != nil || err2 != nil {
		return nil, fmt.Errorf("user %s has the ids %s and %s", who.Username, who.Uid, who.Gid)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, os.Chown(folder, uid, gid)
}

func (p *Postgres) data() string { return filepath.Join(p.folder, "data") }

func (p *Postgres) command(name string, args ...string) *exec.Cmd {
	c := exec.Command(filepath.Join(p.bin, name), args...)
	c.Dir, c.SysProcAttr = p.folder, &syscall.SysProcAttr{Credential: p.as}
	return c
}

func (p *Postgres) answers() bool {
	return p.command("pg_isready", "-q", "-h", "127.0.0.1", "-p", p.port).Run() == nil
}

// Start starts the server that was killed. It does not start before the last child
// of the one before has noticed.
func (p *Postgres) Start() (err error) {
	for deadline := time.Now().Add(startPatience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if err = p.Process.Start(); err == nil {
			return nil
		}
	}
	return err
}

// Address is where it listens.
func (p *Postgres) Address() string { return "127.0.0.1:" + p.port }

// URLAt is Joingate's URL of the database, at the address of the server or of a
// proxy before it.
func (p *Postgres) URLAt(address string) string {
	return "postgres://" + Role + "@" + address + "/" + Database + "?sslmode=disable"
}

// Query runs statements in Joingate's database, each in a transaction of its own, as
// the superuser, and gives what the last one selects: a line for each row.
func (p *Postgres) Query(statements ...string) ([]string, error) {
	return p.ask(Database, statements...)
}

func (p *Postgres) ask(database string, statements ...string) ([]string, error) {
	said, err := p.psql(database, statements...).Output()
	if err != nil {
		var why string
		if exit, ok := err.(*exec.ExitError); ok {
			why = string(exit.Stderr)
		}
		return nil, fmt.Errorf("psql: %w: %s", err, why)
	}
	return strings.Split(strings.TrimRight(string(said), "\n"), "\n"), nil
}

func (p *Postgres) psql(database string, statements ...string) *exec.Cmd {
	args := []string{"--no-psqlrc", "-qAt", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", p.port, "-U", operator, "-d", database}
	for _, s := range statements {
		args = append(args, "-c", s)
	}
	return p.command("psql", args...)
}

// Lock holds a table against everybody for the time, as a session does that somebody
// has forgotten, and returns when it has let go.
func (p *Postgres) Lock(table string, d time.Duration) error {
	_, err := p.Query(fmt.Sprintf("BEGIN; LOCK TABLE %s IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(%.3f); ROLLBACK", table, d.Seconds()))
	return err
}

// Limit lets Joingate's user have so many connections, -1 for as many as there are,
// and ends those that there are.
func (p *Postgres) Limit(connections int) error {
	_, err := p.ask("postgres", fmt.Sprintf("ALTER ROLE %s CONNECTION LIMIT %d", Role, connections),
		fmt.Sprintf("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '%s'", Role))
	return err
}
