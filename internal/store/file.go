package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

var (
	// ErrLocked: another process has the file. Two daemons must not share one; the
	// command line asks the running one.
	ErrLocked = errors.New("store: in use by another process")
	// ErrDamaged: the file is not what was written. It is moved aside.
	ErrDamaged = errors.New("store: damaged file")
)

const (
	dirMode  = 0o700
	fileMode = 0o600
	// lockWait covers a predecessor that is still draining.
	lockWait = time.Second
	// mapSize is the address space reserved for the file. Readers wait while it
	// grows, so it begins larger than a million policies; it costs no memory.
	mapSize = 1 << 30
)

func policiesBucket() []byte { return []byte("policies") }

func dueBucket() []byte { return []byte("due") }

func allBuckets() [][]byte {
	return [][]byte{policiesBucket(), dueBucket(), pinsBucket(), changesBucket(), verdictsBucket()}
}

// buckets are what a transaction works on.
type buckets struct{ policies, due, pins, changes, verdicts *bbolt.Bucket }

// file is an open bbolt file. Its methods turn every panic and memory fault that a
// damaged file causes in bbolt into ErrDamaged.
type file struct {
	db       *bbolt.DB
	os       *os.File
	readOnly bool
}

// guard runs f, which reads a memory-mapped file: a page that is not what
// bbolt expects panics, and one that a truncated file lacks faults.
func guard(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v", ErrDamaged, r)
		}
	}()
	return f()
}

// openFile opens or creates a file. Errors wrap ErrLocked, ErrDamaged, or what
// the operating system said.
func openFile(path string) (*file, error) {
	f := &file{}
	err := guard(func() error {
		var err error
		f.db, err = bbolt.Open(path, fileMode, f.options())
		return err
	})
	if err == nil {
		err = f.prepare()
	}
	if err == nil {
		return f, nil
	}
	f.abandon()
	var system syscall.Errno
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return nil, fmt.Errorf("%w: %s", ErrLocked, path)
	case errors.Is(err, ErrDamaged), errors.As(err, &system):
		return nil, fmt.Errorf("store: open %s: %w", path, err)
	}
	return nil, fmt.Errorf("store: open %s: %w: %w", path, ErrDamaged, err)
}

// openReadOnly opens a file that exists, as it is: one that was moved aside, or
// one on a disk that cannot be written.
func openReadOnly(path string) (*file, error) {
	f := &file{readOnly: true}
	opts := f.options()
	opts.ReadOnly, opts.InitialMmapSize = true, 0
	err := guard(func() error {
		var err error
		f.db, err = bbolt.Open(path, fileMode, opts)
		return err
	})
	if err != nil {
		f.abandon()
		return nil, err
	}
	return f, nil
}

func (f *file) options() *bbolt.Options {
	opts := &bbolt.Options{
		Timeout: lockWait,
		// The list of free pages is written with each transaction: finding it
		// at start would mean reading the whole file.
		NoFreelistSync: false,
		FreelistType:   bbolt.FreelistMapType,
		OpenFile: func(name string, flag int, mode fs.FileMode) (*os.File, error) {
			var err error
			f.os, err = os.OpenFile(name, flag, mode)
			return f.os, err
		},
	}
	if strconv.IntSize == 64 {
		opts.InitialMmapSize = mapSize
	}
	return opts
}

// prepare creates the buckets and looks at both ends of them. Damage elsewhere is
// found when it is read.
func (f *file) prepare() error {
	return guard(func() error {
		missing := false
		err := f.db.View(func(tx *bbolt.Tx) error {
			for _, name := range allBuckets() {
				b := tx.Bucket(name)
				if b == nil {
					missing = true
					continue
				}
				b.Cursor().First()
				b.Cursor().Last()
			}
			return nil
		})
		if err != nil || !missing {
			return err
		}
		return f.db.Update(func(tx *bbolt.Tx) error {
			for _, name := range allBuckets() {
				if _, err := tx.CreateBucketIfNotExists(name); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

func (f *file) view(fn func(buckets) error) error {
	return guard(func() error {
		return f.db.View(func(tx *bbolt.Tx) error { return inBuckets(tx, fn) })
	})
}

func (f *file) update(fn func(buckets) error) error {
	return guard(func() error {
		return f.db.Update(func(tx *bbolt.Tx) error { return inBuckets(tx, fn) })
	})
}

func inBuckets(tx *bbolt.Tx, fn func(buckets) error) error {
	b := buckets{
		policies: tx.Bucket(policiesBucket()), due: tx.Bucket(dueBucket()), pins: tx.Bucket(pinsBucket()),
		changes: tx.Bucket(changesBucket()), verdicts: tx.Bucket(verdictsBucket()),
	}
	// One that was only opened to be read may be of before there were the others.
	later := b.pins != nil && b.changes != nil && b.verdicts != nil
	if b.policies == nil || b.due == nil || !later && tx.Writable() {
		return fmt.Errorf("%w: a bucket is gone", ErrDamaged)
	}
	return fn(b)
}

func (f *file) close() error {
	return guard(func() error { return f.db.Close() })
}

// abandon gives up a damaged file. bbolt may hold locks after a panic, and
// closing it could wait for them for ever: only its descriptor is closed. The address
// space stays taken until the process ends, which happens once a damage.
func (f *file) abandon() {
	if f.os != nil {
		// The mapping keeps the lock alive beyond the descriptor.
		_ = syscall.Flock(int(f.os.Fd()), syscall.LOCK_UN)
		_ = f.os.Close()
	}
}

// writable returns why a file cannot be opened to be written.
func writable(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	return f.Close()
}

// blank reports whether there surely is no file, or one of no octets: nothing that
// was kept is out of reach.
func blank(path string) bool {
	info, err := os.Lstat(path)
	return errors.Is(err, fs.ErrNotExist) || err == nil && info.Mode().IsRegular() && info.Size() == 0
}

// setAside renames a damaged file, and returns its new name.
func setAside(path string, now time.Time) (string, error) {
	base := path + ".corrupt-" + now.UTC().Format("20060102T150405Z")
	aside := base
	for i := 1; ; i++ {
		if _, err := os.Lstat(aside); errors.Is(err, fs.ErrNotExist) {
			break
		}
		aside = base + "-" + strconv.Itoa(i)
	}
	return aside, os.Rename(path, aside)
}

// syncDir makes the names in a file's directory durable.
func syncDir(path string) error {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	err = dir.Sync()
	return errors.Join(err, dir.Close())
}
