package broker

import (
	"bufio"
	"bytes"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// The file of users has a line for each:
//
//	NAME:HASH[:RIGHTS]
//
// HASH is what HashPassword makes. RIGHTS is a list, with commas, of gateway ids and
// of the words * (every gateway), events (reads joingate/#) and all (everything).
// Without it, a NAME that is the id of a gateway has the rights of that gateway.
// Empty lines and those that begin with # are passed over. A HASH of - is no
// password: the line is for a client certificate with this name.

// The cost of guessing a password: iterations of PBKDF2 with HMAC-SHA256 (RFC 8018).
// For passwords that people choose, 600,000 are advised. These are for machines and
// should be long and random, and a thousand gateways that come back after a restart
// must not take minutes. A file may have others, within bounds.
const (
	iterations    = 100_000
	minIterations = 10_000
	maxIterations = 5_000_000

	hashName = "pbkdf2-sha256"
	saltSize = 16
)

// HashPassword gives what the file of users holds of a password:
// "pbkdf2-sha256$ITERATIONS$SALT$KEY", salt and key in base64 without padding.
func HashPassword(password string) (string, error) {
	salt := make([]byte, saltSize)
	if _, err := rand.Read(salt); err != nil {
		return "", err
	}
	key, err := pbkdf2.Key(sha256.New, password, salt, iterations, sha256.Size)
	if err != nil {
		return "", err
	}
	text := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("%s$%d$%s$%s", hashName, iterations, text(salt), text(key)), nil
}

// user is one line of the file of users.
type user struct {
	hash   passwordHash
	rights rights
}

// passwordHash is a password made hard to guess. The zero passwordHash is none.
type passwordHash struct {
	iterations int
	salt, key  []byte
}

// matches takes some ten milliseconds.
func (h passwordHash) matches(password []byte) bool {
	if h.key == nil {
		return false
	}
	key, err := pbkdf2.Key(sha256.New, string(password), h.salt, h.iterations, len(h.key))
	return err == nil && subtle.ConstantTimeCompare(key, h.key) == 1
}

func parseHash(text string) (h passwordHash, err error) {
	if text == "-" {
		return h, nil
	}
	parts := strings.Split(text, "$")
	if len(parts) != 4 || parts[0] != hashName {
		return h, errors.New("the password must be hashed, as " + hashName + "$ITERATIONS$SALT$KEY")
	}
	if h.iterations, err = strconv.Atoi(parts[1]); err != nil || h.iterations < minIterations || h.iterations > maxIterations {
		return h, fmt.Errorf("%d to %d iterations can be had", minIterations, maxIterations)
	}
	var errs [2]error
	h.salt, errs[0] = base64.RawStdEncoding.DecodeString(parts[2])
	h.key, errs[1] = base64.RawStdEncoding.DecodeString(parts[3])
	if errors.Join(errs[:]...) != nil || len(h.salt) < 8 || len(h.key) != sha256.Size {
		return h, errors.New("salt or key is no base64 of 8 or more, and 32 octets")
	}
	return h, nil
}

// parseUsers reads the file of users. An error names the line, and nothing of what
// is secret in it.
func parseUsers(text []byte) (map[string]user, error) {
	users := make(map[string]user)
	lines := bufio.NewScanner(bytes.NewReader(text))
	for number := 1; lines.Scan(); number++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		name, u, err := parseUser(line)
		if _, twice := users[name]; err == nil && twice {
			err = fmt.Errorf("%s has a line already", name)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		users[name] = u
	}
	return users, lines.Err()
}

func parseUser(line string) (name string, u user, err error) {
	parts := strings.SplitN(line, ":", 3)
	if len(parts) < 2 || parts[0] == "" || !utf8.ValidString(parts[0]) {
		return "", u, errors.New("write it as NAME:HASH or NAME:HASH:RIGHTS")
	}
	if u.hash, err = parseHash(parts[1]); err != nil {
		return "", u, err
	}
	if len(parts) == 2 {
		u.rights = rightsByName(parts[0])
		return parts[0], u, nil
	}
	u.rights, err = parseRights(parts[2])
	return parts[0], u, err
}
