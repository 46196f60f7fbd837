package main

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"

	"joingate/soak/servers"
)

// previous is the last commit whose program knows no schema but the first. The
// release before the newest schema belongs here: rolling upgrades begin from it.
const previous = "61b9c39"

// The previous program and this one run side by side on one record, which this one
// has brought up to date meanwhile: both answer joins, both change the permission, and
// neither breaks a promise.
func TestOldAndNewSideBySide(t *testing.T) {
	t.Parallel()
	program := buildPrevious(t)
	var old *instance
	th := newTheatre(t, playbill{instances: 1, devices: 30, before: func(th *theatre) { old = th.startProgram(program) }})
	th.goesOn("changes by the new program", 60, 8)
	th.calm()
	th.admin.Client.Endpoint = old.api
	th.begin()
	th.goesOn("changes by the old program", 60, 8)
	th.everyoneJoins("the upgrade")
	for name, i := range map[string]*instance{"old": old, "new": th.instances[0]} {
		accepted := i.joins("accepted")
		t.Logf("the %s program accepted %.0f joins", name, accepted)
		if accepted == 0 {
			t.Errorf("the %s program has accepted no join", name)
		}
	}
	th.verdict()
}

// buildPrevious builds the previous program from the history of this repository. A
// copy of it without history cannot, and says so.
func buildPrevious(t *testing.T) (program string) {
	t.Helper()
	folder := t.TempDir()
	archive := exec.Command("git", "archive", previous)
	archive.Dir = "../.."
	unpack := exec.Command("tar", "-x", "-C", folder)
	var err error
	unpack.Stdin, err = archive.StdoutPipe()
	check(t, err)
	check(t, unpack.Start())
	if err := archive.Run(); err != nil {
		_ = unpack.Wait() // of nothing
		t.Skipf("the previous program cannot be built: git has no commit %s here: %v", previous, err)
	}
	check(t, unpack.Wait())
	program = filepath.Join(folder, "joingate-previous")
	args := []string{"build", "-o", program}
	if raceDetector() { // as this test is built, so that what it is made of is there already
		args = append(args, "-race")
	}
	build := exec.Command("go", append(args, "./cmd/joingate")...)
	build.Dir = folder
	if said, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build of %s: %v\n%s", previous, err, said)
	}
	return program
}

func raceDetector() bool {
	info, _ := debug.ReadBuildInfo()
	for _, s := range info.Settings {
		if s.Key == "-race" {
			return s.Value == "true"
		}
	}
	return false
}

// startProgram starts an instance of another program.
func (th *theatre) startProgram(program string) *instance {
	th.t.Helper()
	i, variables := th.network("")
	apiPort, err := servers.FreePort()
	check(th.t, err)
	opsPort, err := servers.FreePort()
	check(th.t, err)
	m := th.with(append(variables, "JOINGATE_API__LISTEN=127.0.0.1:"+apiPort, "JOINGATE_OPS__LISTEN=127.0.0.1:"+opsPort)...)
	i.daemon = &daemon{machine: m, log: newTranscript(), operations: "http://127.0.0.1:" + opsPort, api: "http://127.0.0.1:" + apiPort}
	process := servers.NewProcess(program, func() *exec.Cmd {
		c := exec.Command(program, "serve")
		c.Dir, c.Env = m.dir, m.environ
		return c
	}, func() bool { status, _ := i.get("/readyz"); return status == 200 }, syscall.SIGTERM)
	check(th.t, process.Start())
	th.t.Cleanup(func() {
		process.Stop()
		if th.t.Failed() {
			th.t.Logf("log of the previous program:\n%s", process.Said())
		}
	})
	return i
}

// Migrations after the first leave what older programs read and write as it is: they
// add tables, indexes, and columns that have a value by themselves. So an older
// program goes on beside a newer one while instances are replaced.
func TestMigrationsOnlyAdd(t *testing.T) {
	files, err := fs.Glob(os.DirFS("../../record/migrations"), "*.sql")
	check(t, err)
	if len(files) == 0 {
		t.Fatal("no migration was found")
	}
	for _, name := range files {
		if strings.HasPrefix(name, "00001_") {
			continue
		}
		text, err := os.ReadFile(filepath.Join("../../record/migrations", name))
		check(t, err)
		for _, statement := range statementsOf(string(text)) {
			if !onlyAdds(statement) {
				t.Errorf("%s: older programs cannot live with this: %s", name, statement)
			}
		}
	}
}

// statementsOf takes a migration apart: what goes up, without comments.
func statementsOf(migration string) (statements []string) {
	up, _, _ := strings.Cut(migration, "-- +goose Down")
	var text strings.Builder
	for line := range strings.Lines(up) {
		code, _, _ := strings.Cut(line, "--")
		text.WriteString(code + " ")
	}
	for statement := range strings.SplitSeq(text.String(), ";") {
		if words := strings.Fields(statement); len(words) > 0 {
			statements = append(statements, strings.ToUpper(strings.Join(words, " ")))
		}
	}
	return statements
}

// onlyAdds reports whether what an older program does goes on as before.
func onlyAdds(statement string) bool {
	switch words := strings.Fields(statement); {
	case strings.HasPrefix(statement, "CREATE TABLE "), strings.HasPrefix(statement, "CREATE INDEX "), strings.HasPrefix(statement, "INSERT INTO "):
		return true
	case strings.HasPrefix(statement, "ALTER TABLE ") && len(words) > 5 && words[3] == "ADD" && words[4] == "COLUMN":
		return !strings.Contains(statement, " NOT NULL") || strings.Contains(statement, " DEFAULT ")
	}
	return false
}

func TestOnlyAdds(t *testing.T) {
	for statement, want := range map[string]bool{
		"create table a (b text not null)":                       true,
		"create index c on a (b)":                                true,
		"alter table a add column d bigint":                      true,
		"alter table a add column d bigint not null default 0":   true,
		"alter table a add column d bigint not null":             false,
		"alter table a drop column b":                            false,
		"alter table a rename column b to c":                     false,
		"alter table a add constraint e check (b <> '')":         false,
		"create unique index c on a (b)":                         false,
		"drop table a":                                           false,
		"update a set b = 'x' -- older programs wrote others":    false,
		"insert into network_servers (id) values (1) -- a table": true,
	} {
		if got := statementsOf(statement); len(got) != 1 || onlyAdds(got[0]) != want {
			t.Errorf("%s: %v, want %v", statement, got, want)
		}
	}
	if got := statementsOf("-- +goose Up\nDROP TABLE a;\n-- +goose Down\nDROP TABLE b;"); len(got) != 1 || got[0] != "DROP TABLE A" {
		t.Errorf("statements of a migration: %q", got)
	}
}
