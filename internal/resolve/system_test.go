package resolve

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

func TestSystemServers(t *testing.T) {
	for file, want := range map[string]string{
		"nameserver 127.0.0.1\n":                      "[127.0.0.1:53]",
		"nameserver ::1\nnameserver 192.0.2.53":       "[[::1]:53 192.0.2.53:53]",
		"nameserver fe80::1%eth0\n":                   "[[fe80::1%eth0]:53]",
		"\tnameserver\t127.0.0.53 trailing\r\n":       "[127.0.0.53:53]",
		"#nameserver 192.0.2.1\nnameserver 127.0.0.1": "[127.0.0.1:53]",
		"nameserver x\nnameserver\noptions edns0\n":   "[127.0.0.1:53]",
		"": "[127.0.0.1:53]",
		"nameserver 1.1.1.1\nnameserver 1.1.1.2\nnameserver 1.1.1.3\nnameserver 1.1.1.4\n": "[1.1.1.1:53 1.1.1.2:53 1.1.1.3:53]",
	} {
		path := filepath.Join(t.TempDir(), "resolv.conf")
		if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := SystemServers(path); fmt.Sprint(got) != want || err != nil {
			t.Errorf("%q: %v, %v; want %s", file, got, err, want)
		}
	}
	if got, err := SystemServers(filepath.Join(t.TempDir(), "none")); fmt.Sprint(got) != "[127.0.0.1:53]" || err != nil {
		t.Errorf("no file: %v, %v", got, err)
	}
	if got, err := SystemServers(t.TempDir()); !errors.Is(err, ErrNoServers) {
		t.Errorf("a folder: %v, %v", got, err)
	}
}
