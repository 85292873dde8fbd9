// Package program runs the programs of this host that tell how it is set up, and reads
// its files: postconf(1), exim, sendmail.
//
//	m := program.Here()
//	if p := m.Find("exim4", "exim"); p != "" {
//		text, err := m.Run(ctx, p, "-bV")
//	}
//
// What is run cannot be led to another configuration by the environment, has nothing on
// its standard input, five seconds, and 256 KB to say.
//
// Errors: ErrSilent, where a program failed and said nothing; ErrTooLong, where a file or an
// output is longer than anything that was asked for can be. Errors of package os and
// os/exec else.
//
// The package knows no program and decides nothing.
package program

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

var (
	// ErrSilent: a program failed and said nothing. So postmap(1) says that a key is not in
	// a table.
	ErrSilent = errors.New("program: it failed and said nothing")
	// ErrTooLong: an output or a file is longer than this package takes. It is not cut:
	// what is missing would be taken for not there.
	ErrTooLong = errors.New("program: too long")
)

const (
	// runTime is how long one run may take; it takes 10 ms.
	runTime = 5 * time.Second
	// maxOutput bounds what is kept of each of a program's two outputs, in bytes.
	maxOutput = 256 << 10
	// maxFile bounds what is read of a file, in bytes.
	maxFile = 4 << 20
)

// Machine is a file system with programs in it. In the zero value there are none.
type Machine struct {
	// Root is the top of the file system; empty means "/".
	Root string
	// Path are the absolute directories in which programs may be, below Root.
	Path []string
	// Runner runs a program, named by its path with Root in front. Needed where Path is not
	// empty. Errors wrap ErrSilent where it failed and said nothing.
	Runner func(ctx context.Context, program string, args ...string) ([]byte, error)
}

// Here is the machine that this program runs on.
func Here() Machine {
	return Machine{Path: append(filepath.SplitList(os.Getenv("PATH")), system()...), Runner: Run}
}

// system are the directories in which mail servers are. An ordinary user's PATH lacks
// some of them.
func system() []string {
	return []string{"/usr/sbin", "/usr/local/sbin", "/usr/bin", "/sbin", "/usr/lib"}
}

// At is the name of a file of the machine, seen from this process.
func (m Machine) At(elements ...string) string {
	return filepath.Join(append([]string{"/", m.Root}, elements...)...)
}

// Find returns where the first of some programs is, or "". The path has Root in front.
func (m Machine) Find(names ...string) string {
	for _, name := range names {
		for _, dir := range m.Path {
			if !filepath.IsAbs(dir) {
				continue
			}
			program := m.At(dir, name)
			if info, err := m.stat(filepath.Join(dir, name)); err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0 {
				return program
			}
		}
	}
	return ""
}

// stat follows links: Debian's /usr/sbin/sendmail is one that begins with "/", which
// below a Root does not lead where it should.
func (m Machine) stat(name string) (os.FileInfo, error) {
	for range 8 {
		info, err := os.Lstat(m.At(name))
		if err != nil || info.Mode()&os.ModeSymlink == 0 {
			return info, err
		}
		to, err := os.Readlink(m.At(name))
		if err != nil {
			return nil, err
		}
		if !filepath.IsAbs(to) {
			to = filepath.Join(filepath.Dir(name), to)
		}
		name = to
	}
	return nil, fmt.Errorf("%s: %w", name, syscall.ELOOP)
}

// Stat says what a file of the machine is, through links, which stay below Root.
func (m Machine) Stat(name string) (os.FileInfo, error) { return m.stat(name) }

// Run runs a program that Find has found, and returns its standard output.
func (m Machine) Run(ctx context.Context, program string, args ...string) ([]byte, error) {
	return m.Runner(ctx, program, args...)
}

// ReadFile reads a file of the machine, of 4 MiB at most.
func (m Machine) ReadFile(name string) ([]byte, error) {
	f, err := os.Open(m.At(name))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(text) > maxFile {
		return nil, fmt.Errorf("%w: %s", ErrTooLong, name)
	}
	return text, err
}

// Run runs a program of this host with an environment that cannot lead it to another
// configuration than the host's, and returns its standard output.
func Run(ctx context.Context, program string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, runTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = []string{"LC_ALL=C", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	cmd.Dir = "/"
	cmd.WaitDelay = time.Second
	// Not /dev/null, which a root that is only looked at may not have.
	cmd.Stdin = strings.NewReader("")
	var out, said bounded
	cmd.Stdout, cmd.Stderr = &out, &said
	err := cmd.Run()
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil && len(said.Bytes()) == 0:
		return nil, fmt.Errorf("%w: %w", ErrSilent, err)
	case err != nil:
		return nil, fmt.Errorf("%w: %.300q", err, complaint(said.Bytes()))
	}
	return out.Bytes(), nil
}

// complaint is the first line of what a program says when it fails, and the second where
// the first announces it, as Exim does.
func complaint(said []byte) string {
	first, rest, _ := strings.Cut(string(said), "\n")
	if second, _, _ := strings.Cut(rest, "\n"); strings.HasSuffix(first, ":") && second != "" {
		return first + " " + strings.TrimSpace(second)
	}
	return first
}

// bounded is a buffer that takes maxOutput bytes. (Not by embedding: io.Copy would
// go around it.)
type bounded struct{ buffer bytes.Buffer }

// Write implements io.Writer.
func (b *bounded) Write(p []byte) (int, error) {
	if b.buffer.Len()+len(p) > maxOutput {
		return 0, ErrTooLong
	}
	return b.buffer.Write(p)
}

// Bytes is what was written.
func (b *bounded) Bytes() []byte { return b.buffer.Bytes() }

// Settings reads lines "name = value", as postconf and "exim -bP" print them. A value that
// goes on in the next line, which begins with a space, is cut.
func Settings(text string) map[string]string {
	found := make(map[string]string)
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, " ") || strings.HasPrefix(line, "\t") {
			continue
		}
		if name, value, ok := strings.Cut(line, "="); ok {
			found[strings.TrimSpace(name)] = strings.TrimSpace(value)
		}
	}
	return found
}
