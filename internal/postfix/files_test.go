package postfix

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// TestFiles: the tables, lists and directories that main.cf names are among what is read,
// a file at the top by itself, and what is asked over a socket is none.
func TestFiles(t *testing.T) {
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "usr/sbin"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "usr/sbin/postconf"), nil, 0o755); err != nil {
		t.Fatal(err)
	}
	said := `queue_directory = /srv/queue
shlib_directory = no
config_directory = /opt/postfix/etc
transport_maps = socketmap:inet:127.0.0.1:8461:transport, hash:/etc/transport, !proxy:cdb:/srv/maps/transport
mydestination = $myhostname, localhost, /srv/lists/mine
`
	h := Host{Root: root, Path: []string{"/usr/sbin"}, Run: func(context.Context, string, ...string) ([]byte, error) { return []byte(said), nil }}
	f := h.Files(t.Context())
	at := func(name string) string { return filepath.Join(root, name) }
	for _, want := range []string{"etc/postfix", "srv/queue/etc", "etc/transport", "etc/transport.db", "srv/maps", "srv/lists"} {
		if !slices.Contains(f.Read, at(want)) {
			t.Errorf("%s is not read: %q", want, f.Read)
		}
	}
	if slices.Contains(f.Read, at("etc")) || slices.Contains(f.Read, root) || slices.Contains(f.Read, at("srv/queue")) {
		t.Errorf("too much is read: %q", f.Read)
	}
	if !slices.Contains(f.List, at("srv/queue")) || !slices.Contains(f.Read, at("opt/postfix/etc")) || slices.Contains(f.Run, at("opt/postfix/etc")) || !slices.Contains(f.Run, at("usr/sbin")) {
		t.Errorf("list %q, run %q", f.List, f.Run)
	}
	h.Run = func(context.Context, string, ...string) ([]byte, error) { return nil, errors.New("broken") }
	if f = h.Files(t.Context()); !slices.Contains(f.Read, at("etc/postfix")) || !slices.Contains(f.Run, at("usr/sbin")) {
		t.Errorf("with a broken postconf: %+v", f)
	}
}
