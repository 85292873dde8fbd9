package doctor

import (
	"os"
	"slices"
	"strings"

	"tlsverdict/internal/program"
)

// NameUser gives a user, of whom the number is known, the name that the machine has for it.
func NameUser(m program.Machine, u User) User {
	passwd, err := m.ReadFile("/etc/passwd")
	if err != nil {
		return u
	}
	for line := range strings.Lines(string(passwd)) {
		if f := strings.Split(line, ":"); len(f) > 2 {
			if id, ok := number(f[2]); ok && id == u.ID {
				u.Name = f[0]
				return u
			}
		}
	}
	return u
}

// FindUser looks a user up in a machine's own files. An error is os.ErrNotExist where there
// is none.
func FindUser(m program.Machine, name string) (User, error) {
	passwd, err := m.ReadFile("/etc/passwd")
	if err != nil {
		return User{}, err
	}
	u := User{Name: name}
	found := false
	for line := range strings.Lines(string(passwd)) {
		f := strings.Split(strings.TrimSpace(line), ":")
		if len(f) < 4 || f[0] != name {
			continue
		}
		id, ok := number(f[2])
		group, ok2 := number(f[3])
		if ok && ok2 {
			u.ID, u.Groups, found = id, []uint32{group}, true
			break
		}
	}
	if !found {
		return User{}, &os.PathError{Op: "the user " + name, Path: "/etc/passwd", Err: os.ErrNotExist}
	}
	groups, err := m.ReadFile("/etc/group")
	if err != nil {
		return User{}, err
	}
	for line := range strings.Lines(string(groups)) {
		f := strings.Split(strings.TrimSpace(line), ":")
		if len(f) < 4 || !slices.Contains(strings.Split(f[3], ","), name) {
			continue
		}
		if id, ok := number(f[2]); ok && !slices.Contains(u.Groups, id) {
			u.Groups = append(u.Groups, id)
		}
	}
	return u, nil
}
