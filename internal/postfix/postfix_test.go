package postfix

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fake is a file system with a postconf in it that answers as Postfix was seen to.
type fake struct {
	// main is what it prints for -x, chroot for -F, options for -P.
	main, chroot, options string
	// fails is the option at which it fails.
	fails string
	ran   []string
}

// debian is what postconf of Debian 12 prints as installed.
const debian = `mail_version = 3.7.11
queue_directory = /var/spool/postfix
compatibility_level = 3.6
smtp_dns_support_level =
smtp_host_lookup = dns
ignore_mx_lookup_error = no
smtp_dns_resolver_options =
smtp_tls_fingerprint_digest = sha256
`

func (f *fake) run(_ context.Context, program string, args ...string) ([]byte, error) {
	f.ran = append(f.ran, program+" "+strings.Join(args, " "))
	if args[0] == f.fails {
		return nil, errors.New(`exit status 1: "postconf: fatal: open /etc/postfix/main.cf: Permission denied"`)
	}
	return []byte(map[string]string{"-x": f.main, "-F": f.chroot, "-P": f.options}[args[0]]), nil
}

// host makes the file system.
func (f *fake) host(t *testing.T, files ...string) Host {
	t.Helper()
	h := Host{Root: t.TempDir(), Path: []string{"relative", "", "/usr/sbin", "/usr/local/sbin"}, Run: f.run}
	for _, name := range files {
		path := filepath.Join(h.Root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

func TestExamine(t *testing.T) {
	unasked := Obstacle{"Postfix does not ask for DNSSEC", "smtp_dns_support_level = dnssec"}
	other := func(old, replacement string) string { return strings.Replace(debian, old, replacement, 1) }
	for _, tc := range []struct {
		name string
		fake fake
		want Setup
	}{
		{
			"Debian",
			fake{main: debian, chroot: "smtp/unix/chroot = y\n"},
			Setup{Version: "3.7.11", ResolvConf: "/var/spool/postfix/etc/resolv.conf", Chrooted: true, Obstacle: unasked, Digest: "sha256"},
		},
		{
			"with DNSSEC",
			fake{main: other("level =\n", "level = dnssec\n"), chroot: "smtp/unix/chroot = y\n"},
			Setup{Version: "3.7.11", ResolvConf: "/var/spool/postfix/etc/resolv.conf", Chrooted: true, DANE: true, Digest: "sha256"},
		},
		{
			"not chrooted",
			fake{main: debian, chroot: "smtp/unix/chroot = n\n"},
			Setup{Version: "3.7.11", ResolvConf: "/etc/resolv.conf", Obstacle: unasked, Digest: "sha256"},
		},
		{
			"the default",
			fake{main: debian, chroot: "smtp/unix/chroot = -\n"},
			Setup{Version: "3.7.11", ResolvConf: "/etc/resolv.conf", Obstacle: unasked, Digest: "sha256"},
		},
		{
			"the default of old",
			fake{main: other("= 3.6", "= 0"), chroot: "smtp/unix/chroot = -\n"},
			Setup{Version: "3.7.11", ResolvConf: "/var/spool/postfix/etc/resolv.conf", Chrooted: true, Obstacle: unasked, Digest: "sha256"},
		},
		{
			"another queue",
			fake{main: other("/var/spool/postfix", "/srv/queue"), chroot: "smtp/unix/chroot = y\n"},
			Setup{Version: "3.7.11", Queue: "/srv/queue", ResolvConf: "/srv/queue/etc/resolv.conf", Chrooted: true, Obstacle: unasked, Digest: "sha256"},
		},
		{
			"MD5",
			fake{main: other("sha256", "MD5"), chroot: "smtp/unix/chroot = n\n"},
			Setup{Version: "3.7.11", ResolvConf: "/etc/resolv.conf", Obstacle: unasked, Digest: "md5"},
		},
		{
			"options of master.cf",
			fake{main: debian, chroot: "smtp/unix/chroot = n\n", options: "smtp/unix/smtp_dns_support_level = dnssec\nsmtp/unix/smtp_tls_fingerprint_digest = sha1\nsmtp/unix/smtp_tls_security_level = encrypt\n"},
			Setup{Level: "encrypt", Version: "3.7.11", ResolvConf: "/etc/resolv.conf", DANE: true, Digest: "sha1"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := tc.fake.host(t, "usr/sbin/postconf", "etc/postfix/main.cf")
			got, err := h.Examine(t.Context())
			tc.want.ResolvConf = filepath.Join(h.Root, tc.want.ResolvConf)
			if tc.want.Queue == "" {
				tc.want.Queue = "/var/spool/postfix"
			}
			if err != nil || got != tc.want {
				t.Errorf("%+v, %v; want %+v", got, err, tc.want)
			}
			if len(tc.fake.ran) != 3 || !strings.HasPrefix(tc.fake.ran[0], filepath.Join(h.Root, "usr/sbin/postconf")+" -x ") {
				t.Errorf("it ran %q", tc.fake.ran)
			}
		})
	}
}

// TestObstacles: each setting with which Postfix sets DANE aside, in main.cf and in
// master.cf.
func TestObstacles(t *testing.T) {
	const does = "smtp_dns_support_level = dnssec\nsmtp_host_lookup = dns\nignore_mx_lookup_error = no\nsmtp_dns_resolver_options =\n"
	for _, tc := range []struct{ instead, wayOut string }{
		{"", ""},
		{"smtp_dns_support_level = DNSSEC", ""},
		{"smtp_dns_support_level =", "smtp_dns_support_level = dnssec"},
		{"smtp_dns_support_level = enabled", "smtp_dns_support_level = dnssec"},
		{"smtp_dns_support_level = disabled", "smtp_dns_support_level = dnssec"},
		{"smtp_host_lookup = native", "smtp_host_lookup = dns"},
		{"smtp_host_lookup =", "smtp_host_lookup = dns"},
		{"smtp_host_lookup = nodns", "smtp_host_lookup = dns"},
		{"smtp_host_lookup = native,dns", ""},
		{"smtp_host_lookup = dns, native", ""},
		{"ignore_mx_lookup_error = yes", "ignore_mx_lookup_error = no"},
		{"ignore_mx_lookup_error = YES", "ignore_mx_lookup_error = no"},
		{"ignore_mx_lookup_error = No", ""},
		{"ignore_mx_lookup_error =", "ignore_mx_lookup_error = no"},
		{"smtp_dns_resolver_options = res_defnames", "smtp_dns_resolver_options ="},
		{"smtp_dns_resolver_options = res_dnsrch", "smtp_dns_resolver_options ="},
		{"smtp_dns_resolver_options = res_defnames, res_dnsrch", "smtp_dns_resolver_options ="},
	} {
		// The last word counts, as settings reads it.
		main := "mail_version = 3.7.11\n" + does + tc.instead + "\n"
		options := ""
		if tc.instead != "" {
			options = "smtp/unix/" + tc.instead + "\n"
		}
		for _, f := range []fake{
			{main: main, chroot: "smtp/unix/chroot = n\n"},
			{main: "mail_version = 3.7.11\n" + does, chroot: "smtp/unix/chroot = n\n", options: options},
		} {
			got, err := f.host(t, "usr/sbin/postconf").Examine(t.Context())
			if err != nil || got.DANE != (tc.wayOut == "") || got.Obstacle.WayOut != tc.wayOut || (got.Obstacle.Because == "") != got.DANE {
				t.Errorf("%q, -o %q: %+v, %v; want %q", tc.instead, f.options, got, err, tc.wayOut)
			}
			name, _, _ := strings.Cut(tc.instead, " =")
			if asked := strings.Join(f.ran, "\n"); !strings.Contains(asked, " "+name) || !strings.Contains(asked, "smtp/unix/"+name) {
				t.Errorf("it was not asked for %s: %s", name, asked)
			}
		}
	}
	// What it does not tell is in the way.
	f := fake{main: "mail_version = 3.7.11\nsmtp_dns_support_level = dnssec\n", chroot: "smtp/unix/chroot = n\n"}
	if got, err := f.host(t, "usr/sbin/postconf").Examine(t.Context()); err != nil || got.DANE {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestNoPostfix: is no error; the host's own resolvers are all that is known.
func TestNoPostfix(t *testing.T) {
	var f fake
	h := f.host(t)
	if got, err := h.Examine(t.Context()); err != nil || got != (Setup{ResolvConf: h.Root + "/etc/resolv.conf"}) {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := (Host{}).Examine(t.Context()); err != nil || got != (Setup{ResolvConf: "/etc/resolv.conf"}) {
		t.Errorf("the zero value: %+v, %v", got, err)
	}
	if len(f.ran) > 0 {
		t.Errorf("it ran %q", f.ran)
	}
}

// TestUnclear: what cannot be learned is never taken for any setting.
func TestUnclear(t *testing.T) {
	for _, tc := range []struct {
		name  string
		fake  fake
		files []string
		says  string
	}{
		{"only files", fake{}, []string{"etc/postfix/main.cf"}, "no postconf"},
		{"main.cf unreadable", fake{fails: "-x"}, []string{"usr/sbin/postconf"}, "Permission denied"},
		{"master.cf unreadable", fake{main: debian, fails: "-F"}, []string{"usr/sbin/postconf"}, "-F"},
		{"no options", fake{main: debian, chroot: "smtp/unix/chroot = n\n", fails: "-P"}, []string{"usr/sbin/postconf"}, "-P"},
		{"nothing printed", fake{}, []string{"usr/local/sbin/postconf"}, "no version"},
		{"no smtp", fake{main: debian}, []string{"usr/sbin/postconf"}, "does not say whether smtp/unix is chrooted"},
		{"strange level", fake{main: strings.Replace(debian, "3.6", "$x", 1), chroot: "smtp/unix/chroot = -\n"}, []string{"usr/sbin/postconf"}, "compatibility_level"},
		{"no queue", fake{main: "mail_version = 3.7\n", chroot: "smtp/unix/chroot = y\n"}, []string{"usr/sbin/postconf"}, "queue_directory"},
	} {
		got, err := tc.fake.host(t, tc.files...).Examine(t.Context())
		if !errors.Is(err, ErrExamine) || !strings.Contains(err.Error(), tc.says) || got.DANE {
			t.Errorf("%s: %+v, %v; want %q", tc.name, got, err, tc.says)
		}
	}
}
