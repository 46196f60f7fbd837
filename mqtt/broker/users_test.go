package broker

import (
	"strings"
	"testing"
	"time"
)

func TestRights(t *testing.T) {
	const id, other = "0016c001f1500a01", "0016c001f1500b02"
	gateway, every, events, all := rightsByName(strings.ToUpper(id)), rights{any: true}, rights{events: true}, rights{all: true}
	for _, test := range []struct {
		rights rights
		topic  string
		write  bool
		want   bool
	}{
		{gateway, "gateway/" + id + "/event/up", true, true},
		{gateway, "eu868/gateway/" + id + "/state/conn", true, true},
		{gateway, "gateway/" + other + "/event/up", true, false},
		{gateway, "gateway/" + other + "/gateway/" + id + "/event/up", true, true}, // nobody reads that as the other's
		{gateway, "gateway/" + id + "/event/up/more", true, false},
		{gateway, "gateway/" + id + "/command/down", true, false},
		{gateway, "gateway/" + strings.ToUpper(id) + "/event/up", true, false},
		{gateway, "+/gateway/" + id + "/event/up", true, false},
		{gateway, "gateway/" + id + "/event/#", true, false},
		{every, "gateway/+/event/up", true, false},
		{gateway, strings.Repeat("a/", 120) + "gateway/" + id + "/event/up", true, false},
		{gateway, strings.Repeat("a/", 120) + "gateway/" + id + "/command/#", false, false},
		{events, "joingate/" + strings.Repeat("a", 248), false, false},
		{gateway, "/gateway/" + id + "/event/up", true, false},
		{gateway, "$SYS/gateway/" + id + "/event/up", true, false},
		{gateway, "gateway/" + id + "/command/#", false, true},
		{gateway, "+/gateway/" + id + "/command/+", false, true},
		{gateway, "gateway/" + id + "/#", false, false},
		{gateway, "gateway/+/command/down", false, false},
		{gateway, "+/" + id + "/command/down", false, false},
		{gateway, "gateway/" + id + "/+/down", false, false},
		{gateway, "gateway/" + id + "/event/up", false, false},
		{gateway, "#", false, false},
		{gateway, "", false, false},
		{every, "gateway/+/command/#", false, true},
		{every, "gateway/" + other + "/event/up", true, true},
		{every, "gateway/#", false, false},
		{every, "joingate/#", false, false},
		{events, "joingate/#", false, true},
		{events, "joingate/1/node/+/event/join", false, true},
		{events, "joingate", false, false},
		{events, "+/1", false, false},
		{events, "joingate/1", true, false},
		{all, "#", false, true},
		{all, "joingate/1", true, true},
		{rights{}, "gateway/" + id + "/event/up", true, false},
		{rightsByName("bridge"), "gateway/" + id + "/event/up", true, false},
	} {
		got := test.rights.mayRead(test.topic)
		if test.write {
			got = test.rights.mayPublish(test.topic)
		}
		if got != test.want {
			t.Errorf("%+v, %q, write %t: %t", test.rights, test.topic, test.write, got)
		}
	}
}

func TestParseUsersNamesTheLine(t *testing.T) {
	hash, err := HashPassword("sesame")
	if err != nil {
		t.Fatal(err)
	}
	for text, says := range map[string]string{
		"a:" + hash + "\nb":                           "line 2: write it as",
		"a:" + hash + "\n\n#\na:" + hash:              "line 4: a has a line already",
		"a:sesame":                                    "line 1: the password must be hashed",
		"a:" + hash + ":gateway7":                     `"gateway7" is neither`,
		"a:" + hash + ":":                             "is neither",
		"a:pbkdf2-sha256$1$c2VzYW1lc2VzYW1l$c2VzYW1l": "iterations",
		"a:pbkdf2-sha256$10000$c2VzYW1l$c2VzYW1l":     "salt or key",
		":" + hash:                                    "write it as",
	} {
		if _, err := parseUsers([]byte(text)); err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "sesame") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func FuzzParseUsers(f *testing.F) {
	f.Add([]byte("# comment\n\n0016c001f1500a01:pbkdf2-sha256$10000$c2VzYW1lc2VzYW1l$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\nbridge:-:*,events,0016c001f1500a01"))
	f.Fuzz(func(t *testing.T, text []byte) {
		users, err := parseUsers(text)
		for name, u := range users {
			if err != nil || name == localName {
				t.Errorf("user %q, error %v", name, err)
			}
			if n := len(u.hash.key); n != 0 && (n != 32 || u.hash.iterations < minIterations || u.hash.iterations > maxIterations) {
				t.Errorf("user %q: hash of %d octets, %d iterations", name, n, u.hash.iterations)
			}
		}
	})
}

// Property: whatever topic a gateway may publish on, its own id is where the edge
// looks for it.
func FuzzRights(f *testing.F) {
	const id = "0016c001f1500a01"
	f.Add("gateway/"+id+"/event/up", "gateway/"+id+"/command/#")
	r := rightsByName(id)
	f.Fuzz(func(t *testing.T, topic, filter string) {
		if r.mayPublish(topic) && !strings.HasSuffix("/"+topic[:strings.LastIndex(topic[:strings.LastIndex(topic, "/")], "/")], "/gateway/"+id) {
			t.Errorf("may publish on %q", topic)
		}
		if r.mayRead(filter) && !strings.Contains("/"+filter, "/gateway/"+id+"/command/") {
			t.Errorf("may read %q", filter)
		}
	})
}

// Who guesses passwords has one processor, however many connections there are.
func TestOneGuessAtATime(t *testing.T) {
	slow := user{hash: passwordHash{iterations: 500_000, salt: make([]byte, saltSize), key: make([]byte, 32)}}
	d := &door{users: &kept[*userTable]{now: time.Now, looked: time.Now().Add(time.Hour), value: &userTable{users: map[string]user{"a": slow}}}}
	guessed := make(chan bool)
	go func() { guessed <- d.proves("a", []byte("guess")) }()
	held := false
	for {
		select {
		case right := <-guessed:
			if right || !held {
				t.Errorf("the guess was right: %t, and others had to wait: %t", right, held)
			}
			return
		default:
			if d.guessing.TryLock() {
				d.guessing.Unlock()
			} else {
				held = true
			}
		}
	}
}
