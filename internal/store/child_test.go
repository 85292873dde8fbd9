package store

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"tlsverdict/internal/mtasts"
)

// childEnv makes the test binary run one of the children below instead of its
// tests: what happens to a process cannot be tested within it.
const childEnv = "TLSVERDICT_STORE_CHILD"

var kills = flag.Int("kills", 25, "how often TestS13SurvivesKill kills its child")

func TestMain(m *testing.M) {
	name := os.Getenv(childEnv)
	if name == "" {
		os.Exit(m.Run())
	}
	if err := children()[name](os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func children() map[string]func(path string) error {
	return map[string]func(string) error{
		"writer":   writeForEver,
		"diskfull": fillTheDisk,
		"readonly": readOnlyDirectory,
	}
}

func child(t *testing.T, name, path string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe, path)
	cmd.Env = append(os.Environ(), childEnv+"="+name)
	return cmd
}

const childDomains = 300

// numbered returns the policy of a child's domain, whose id is a count.
func numbered(n int) (mtasts.Cached, error) {
	domain := fmt.Sprintf("d%d.example", n%childDomains)
	p, err := mtasts.ParsePolicy([]byte("version: STSv1\nmode: enforce\nmx: mail." + domain + "\nmax_age: 604800\n"))
	return mtasts.Cached{Domain: domain}.AfterSuccess(start, strconv.Itoa(n), p, 0), err
}

// writeForEver puts policies with rising ids, and prints after each Sync the highest
// that is durable.
func writeForEver(path string) error {
	s, err := Open(path, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	first, _ := strconv.Atoi(os.Getenv("FIRST"))
	for n := first; ; n++ {
		c, err := numbered(n)
		if err != nil {
			return err
		}
		keep(s, c)
		if n%7 != 0 {
			continue
		}
		if err := s.Sync(context.Background()); err != nil {
			return err
		}
		fmt.Println(n)
	}
}

func TestS13SurvivesKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "policyd.db")
	r := rand.New(rand.NewPCG(3, 4))
	// acked has for each domain the highest id that was said to be durable.
	acked := map[string]int{}
	first := 0
	for round := range *kills {
		cmd := child(t, "writer", path)
		cmd.Env = append(cmd.Env, "FIRST="+strconv.Itoa(first))
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		next := first
		for left := 1 + r.IntN(60); left > 0 && lines.Scan(); left-- {
			n, err := strconv.Atoi(lines.Text())
			if err != nil {
				t.Fatal(err)
			}
			for ; next <= n; next++ {
				acked[fmt.Sprintf("d%d.example", next%childDomains)] = next
			}
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		// It may have gone on until the signal arrived: start above that.
		for lines.Scan() {
			next++
		}
		_ = cmd.Wait()
		first = next + 10_000
		verify(t, path, acked, round)
	}
}

// verify opens the store as the next daemon would.
func verify(t *testing.T, path string, acked map[string]int, round int) {
	t.Helper()
	s, l := open(t, path)
	for domain, n := range acked {
		c, found, _ := s.Policy(domain)
		id, err := strconv.Atoi(c.ID)
		if !found || err != nil || id < n {
			t.Fatalf("round %d: %s has id %q, want at least %d\n%s", round, domain, c.ID, n, l)
		}
	}
	if got := len(s.Due(start.AddDate(1, 0, 0), 10*childDomains)); got < len(acked) {
		t.Fatalf("round %d: %d domains in the index, want %d", round, got, len(acked))
	}
	if st := s.Stats(); st.Damaged+st.Ignored != 0 {
		t.Fatalf("round %d: %+v\n%s", round, st, l)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// fillTheDisk limits the size of files, which ends writes as a full disk does.
func fillTheDisk(path string) error {
	signal.Ignore(syscall.SIGXFSZ)
	l := &logs{}
	s, err := Open(path, slog.New(slog.NewTextHandler(l, nil)))
	if err != nil {
		return err
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	small := limit
	small.Cur = 32 << 10
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &small); err != nil {
		return err
	}
	for n := range childDomains {
		c, err := numbered(n)
		if err != nil {
			return err
		}
		keep(s, c)
	}
	for range 3 {
		if err := s.Sync(context.Background()); !errors.Is(err, ErrNotDurable) || !errors.Is(err, syscall.EFBIG) {
			return fmt.Errorf("Sync on a full disk: %w", err)
		}
	}
	if err := all(s, l); err != nil {
		return err
	}
	if st := s.Stats(); st.Failures < 3 || st.Durable || l.count("cannot be written") != 1 {
		return fmt.Errorf("%+v\n%s", st, l)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	if err := s.Sync(context.Background()); err != nil || l.count("written again") != 1 {
		return fmt.Errorf("Sync with room again: %w\n%s", err, l)
	}
	if err := s.Close(); err != nil {
		return err
	}
	if s, err = Open(path, slog.New(slog.NewTextHandler(l, nil))); err != nil {
		return err
	}
	return all(s, l)
}

func all(s *Store, l *logs) error {
	for n := range childDomains {
		c, err := numbered(n)
		if got, found, _ := s.Policy(c.Domain); err != nil || !found || got.ID != c.ID {
			return fmt.Errorf("%s: %+v, %t\n%s", c.Domain, got, found, l)
		}
	}
	return nil
}

func TestDiskFull(t *testing.T) {
	run(t, "diskfull", filepath.Join(t.TempDir(), "policyd.db"))
}

func run(t *testing.T, name, path string) {
	t.Helper()
	if out, err := child(t, name, path).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// readOnlyDirectory opens a store that may be read and not written, and one that
// may not even be created.
func readOnlyDirectory(path string) error {
	if os.Getuid() == 0 {
		if err := syscall.Setuid(65534); err != nil {
			return err
		}
	}
	c, err := numbered(1)
	if err != nil {
		return err
	}
	for _, file := range []string{path, path + ".new"} {
		l := &logs{}
		s, err := Open(file, slog.New(slog.NewTextHandler(l, nil)))
		if err != nil {
			return err
		}
		if _, found, _ := s.Policy("kept.example"); found != (file == path) {
			return fmt.Errorf("%s: kept.example found: %t\n%s", file, found, l)
		}
		keep(s, c)
		if got, found, _ := s.Policy(c.Domain); !found || got.ID != "1" {
			return fmt.Errorf("%s: a policy put is gone", file)
		}
		if err := s.Sync(context.Background()); !errors.Is(err, syscall.EACCES) {
			return fmt.Errorf("%s: Sync: %w", file, err)
		}
		if l.count("cannot be written") != 1 || s.Stats().Durable {
			return fmt.Errorf("%s: %+v\n%s", file, s.Stats(), l)
		}
		if err := s.Close(); !errors.Is(err, ErrNotDurable) {
			return fmt.Errorf("%s: Close: %w", file, err)
		}
	}
	return nil
}

func TestReadOnlyDirectory(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "policyd.db")
	s, _ := open(t, path)
	keep(s, cached(t, "kept.example", "1", start))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	modes := map[string]os.FileMode{path: 0o444, dir: 0o555, filepath.Dir(dir): 0o755}
	for name, mode := range modes {
		if err := os.Chmod(name, mode); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = os.Chmod(dir, 0o700) })
	run(t, "readonly", path)
}

func TestLockedByAnotherProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "policyd.db")
	cmd := child(t, "writer", path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if !bufio.NewScanner(out).Scan() {
		t.Fatal("the child wrote nothing")
	}
	go func() { _, _ = bufio.NewReader(out).WriteTo(discard{}) }()
	_, err = Open(path, slog.New(slog.DiscardHandler))
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), path) {
		t.Errorf("%v, want ErrLocked with the path", err)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
