package doctor

import (
	"errors"
	"io/fs"
	"path/filepath"
	"syscall"

	"tlsverdict/internal/program"
)

// LookAtStore looks at the file of a store, and its directory. Who policyd runs as is for
// the caller to say.
func LookAtStore(m program.Machine, path string) Store {
	s := Store{Path: path, Free: -1}
	var err error
	if s.Dir, err = stat(m, filepath.Dir(path)); err == nil && s.Dir != nil {
		s.File, err = stat(m, path)
		if free, readOnly, err := room(m.At(filepath.Dir(path))); err == nil {
			s.Free, s.ReadOnly = free, readOnly
		}
	}
	if err != nil {
		s.Problem = inside(err, m.Root)
	}
	return s
}

// stat returns nil, and no error, where there is nothing.
func stat(m program.Machine, path string) (*Stat, error) {
	info, err := m.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	s := &Stat{Path: path, Mode: info.Mode()}
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		s.User, s.Group = sys.Uid, sys.Gid
	}
	return s, nil
}
