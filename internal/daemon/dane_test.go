package daemon

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tlsverdict/internal/config"
	"tlsverdict/internal/postfix"
	"tlsverdict/internal/verdict"
	"tlsverdict/internal/world"
)

const (
	mainCF       = "mail_version = 3.7.11\nqueue_directory = /queue\ncompatibility_level = 3.6\nsmtp_host_lookup = dns\nignore_mx_lookup_error = no\nsmtp_dns_resolver_options =\n"
	postfixSays  = mainCF + "smtp_dns_support_level = dnssec\nsmtp_tls_fingerprint_digest = sha256\n"
	withoutLevel = mainCF + "smtp_dns_support_level =\nsmtp_tls_fingerprint_digest = sha256\n"
	withMD5      = mainCF + "smtp_dns_support_level = dnssec\nsmtp_tls_fingerprint_digest = md5\n"
	// The last of two lines counts.
	withoutDNS = postfixSays + "smtp_host_lookup = native\n"
	ignoring   = postfixSays + "ignore_mx_lookup_error = yes\n"
	searching  = postfixSays + "smtp_dns_resolver_options = res_defnames\n"
	namesOne   = "nameserver 127.0.0.53\n"
	namesTwo   = "nameserver 127.0.0.53\nnameserver 127.0.0.54\n"
	namesOctal = "nameserver 127.0.0.53\nnameserver 192.168.001.001\n"
	namesOther = "nameserver 127.0.0.53\nnameserver 192.0.2.53\n"
)

// machine is a host with a Postfix, in a world of its own.
type machine struct {
	// postconf is what Postfix says; empty: there is none. "fails" fails.
	postconf string
	// resolvConf is the host's; chroot that in the queue directory.
	resolvConf, chroot string
}

func (m machine) host(t *testing.T) *postfix.Host {
	t.Helper()
	root := t.TempDir()
	files := map[string]string{"etc/resolv.conf": m.resolvConf}
	if m.chroot != "" {
		files["queue/etc/resolv.conf"] = m.chroot
	}
	if m.postconf != "" {
		files["usr/sbin/postconf"] = ""
	}
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return &postfix.Host{Root: root, Path: []string{"/usr/sbin"}, Run: func(_ context.Context, _ string, args ...string) ([]byte, error) {
		switch {
		case m.postconf == "fails":
			return nil, errors.New("permission denied")
		case args[0] == "-x":
			return []byte(m.postconf), nil
		case args[0] == "-F" && m.chroot != "":
			return []byte("smtp/unix/chroot = y\n"), nil
		case args[0] == "-F":
			return []byte("smtp/unix/chroot = n\n"), nil
		}
		return nil, nil
	}}
}

// scene is an mta in a world.
type scene struct {
	*mta
	world   *world.World
	log     bytes.Buffer
	changes int
}

// play runs a test with a clock of its own.
func play(t *testing.T, m machine, change func(*config.Config), test func(*testing.T, *scene)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w, err := world.New()
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		cfg := config.Default()
		if change != nil {
			change(cfg)
		}
		s := &scene{world: w}
		s.mta = newMTA(cfg, Network{DialDNS: w.DNS.Dial, Postfix: m.host(t)}, slog.New(slog.NewTextHandler(&s.log, nil)))
		s.changed = func() { s.changes++ }
		test(t, s)
		time.Sleep(time.Minute)
		synctest.Wait()
	})
}

// behave changes one resolver, or with "" all of them.
func (s *scene) behave(t *testing.T, server, behaviour string) {
	t.Helper()
	b, err := world.ParseBehaviour(behaviour)
	if err != nil {
		t.Fatal(err)
	}
	s.world.DNS.Behave(server, b)
}

// TestLooks: which resolvers Postfix has, and whether it can believe them all.
func TestLooks(t *testing.T) {
	for _, tc := range []struct {
		name    string
		machine machine
		// resolver is the first one's behaviour, others' is to validate.
		resolver string
		setting  string
		want     verdict.Enforcement
		logs     string
	}{
		{"validating", machine{postfixSays, namesOne, ""}, "validating", "", verdict.Native, "its resolver validates: 127.0.0.53:53"},
		{"forwarding", machine{postfixSays, namesOne, ""}, "forwarding", "", verdict.ByFingerprint, "127.0.0.53:53 does not validate DNSSEC"},
		{"always AD", machine{postfixSays, namesOne, ""}, "always-ad", "", verdict.ByFingerprint, "which nobody signs"},
		{"down", machine{postfixSays, namesOne, ""}, "down", "", verdict.ByFingerprint, "level=WARN"},
		{"silent", machine{postfixSays, namesOne, ""}, "silent", "", verdict.ByFingerprint, "gives no answer"},
		{"the first of two forwards", machine{postfixSays, namesTwo, ""}, "forwarding", "", verdict.ByFingerprint, "127.0.0.53:53 does not"},
		{"the first of two is down", machine{postfixSays, namesTwo, ""}, "down", "", verdict.ByFingerprint, "127.0.0.53:53"},
		{"both validate", machine{postfixSays, namesTwo, ""}, "validating", "", verdict.Native, "127.0.0.54:53"},
		{"one elsewhere", machine{postfixSays, namesOther, ""}, "validating", "", verdict.ByFingerprint, "192.0.2.53:53 is not on this host"},
		{"chroot elsewhere", machine{postfixSays, namesOne, namesOther}, "validating", "", verdict.ByFingerprint, "192.0.2.53:53 is not on this host"},
		{"chroot here", machine{postfixSays, namesOther, namesOne}, "validating", "", verdict.Native, "its resolver validates"},
		{"no DNSSEC level", machine{withoutLevel, namesOne, ""}, "validating", "", verdict.ByFingerprint, "smtp_dns_support_level = dnssec"},
		{"no DNS", machine{withoutDNS, namesOne, ""}, "validating", "", verdict.ByFingerprint, "smtp_host_lookup = dns in main.cf"},
		{"MX errors ignored", machine{ignoring, namesOne, ""}, "validating", "", verdict.ByFingerprint, "ignore_mx_lookup_error = no in main.cf"},
		{"names changed", machine{searching, namesOne, ""}, "validating", "", verdict.ByFingerprint, "smtp_dns_resolver_options = in main.cf"},
		{"names changed, named", machine{searching, namesOther, ""}, "validating", "127.0.0.53:53", verdict.ByFingerprint, "smtp_dns_resolver_options = in main.cf"},
		{"octal", machine{postfixSays, namesOctal, ""}, "validating", "", verdict.ByFingerprint, "cannot tell its resolvers"},
		{"octal in the chroot", machine{postfixSays, namesOne, namesOctal}, "validating", "", verdict.ByFingerprint, "cannot tell its resolvers"},
		{"postconf fails", machine{"fails", namesOne, ""}, "validating", "", verdict.ByFingerprint, "cannot be examined"},
		{"no Postfix", machine{"", namesOne, ""}, "validating", "", verdict.Native, "its resolver validates"},
		{"no Postfix, resolver elsewhere", machine{"", namesOther, ""}, "validating", "", verdict.ByFingerprint, "not on this host"},
		{"named", machine{postfixSays, namesOther, ""}, "validating", "127.0.0.53:53", verdict.Native, "its resolver validates"},
		{"named, postconf fails", machine{"fails", namesOther, ""}, "validating", "127.0.0.53:53", verdict.Native, "its resolver validates"},
		{"named elsewhere", machine{postfixSays, namesOne, ""}, "validating", "192.0.2.53:53", verdict.ByFingerprint, "192.0.2.53:53 is not on this host"},
		{"MD5, native", machine{withMD5, namesOne, ""}, "validating", "", verdict.Native, "level=INFO"},
		{"MD5, fingerprints", machine{withMD5, namesOne, ""}, "forwarding", "", verdict.ByFingerprint, `digest=md5 way_out="smtp_tls_fingerprint_digest = sha256 in main.cf"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			name := func(cfg *config.Config) {
				if tc.setting != "" {
					cfg.Postfix.DANEResolver = netip.MustParseAddrPort(tc.setting)
				}
			}
			play(t, tc.machine, name, func(t *testing.T, s *scene) {
				s.behave(t, "127.0.0.53:53", tc.resolver)
				begin := time.Now()
				if got := s.enforcement(t.Context()); got != tc.want {
					t.Errorf("%v, want %v", got, tc.want)
				}
				if took := time.Since(begin); took > firstLook {
					t.Errorf("an answer waited %v", took)
				}
				time.Sleep(time.Minute)
				if got := s.enforcement(t.Context()); got != tc.want {
					t.Errorf("later %v, want %v", got, tc.want)
				}
				if !strings.Contains(s.log.String(), tc.logs) {
					t.Errorf("the log does not say %q:\n%s", tc.logs, s.log.String())
				}
			})
		})
	}
}

// TestWatch: a change is noticed within minutes, told once, and logged once.
func TestWatch(t *testing.T) {
	play(t, machine{postfixSays, namesOne, ""}, nil, func(t *testing.T, s *scene) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go s.watch(ctx)
		wait := func(d time.Duration, want verdict.Enforcement, records, changes int) {
			t.Helper()
			time.Sleep(d)
			synctest.Wait()
			if got := s.enforcement(ctx); got != want || strings.Count(s.log.String(), "\n") != records || s.changes != changes {
				t.Errorf("%v, want %v; %d changes, want %d; want %d records of\n%s", got, want, s.changes, changes, records, s.log.String())
			}
		}
		wait(time.Second, verdict.Native, 1, 0)
		wait(time.Hour, verdict.Native, 1, 0)
		s.behave(t, "", "forwarding")
		wait(lookAgain+time.Second, verdict.ByFingerprint, 2, 1)
		wait(time.Hour, verdict.ByFingerprint, 2, 1)
		s.behave(t, "", "validating")
		wait(oftenAgain+time.Second, verdict.Native, 3, 2)
		// Silence says nothing of what it does when it speaks.
		s.behave(t, "", "silent")
		wait(time.Hour, verdict.Native, 3, 2)
		s.behave(t, "", "forwarding")
		wait(2*oftenAgain, verdict.ByFingerprint, 4, 3)
		if !strings.Contains(s.log.String(), `way_out="run a validating resolver on this host`) {
			t.Errorf("the log does not tell the way out:\n%s", s.log.String())
		}
	})
}

// TestObeys: the operator's word goes before what is found, which is told all the same.
func TestObeys(t *testing.T) {
	for _, tc := range []struct {
		setting config.DANE
		dnssec  config.DNSSEC
		machine machine
		want    verdict.Enforcement
		logs    string
	}{
		{config.DANENative, config.DNSSECValidate, machine{postfixSays, namesOne, ""}, verdict.Native, "level=ERROR"},
		{config.DANENative, config.DNSSECValidate, machine{ignoring, namesOne, ""}, verdict.Native, "level=ERROR"},
		{config.DANENative, config.DNSSECValidate, machine{ignoring, namesOne, ""}, verdict.Native, "ignore_mx_lookup_error = no"},
		{config.DANENative, config.DNSSECValidate, machine{"fails", namesOne, ""}, verdict.Native, "cannot be examined"},
		{config.DANENative, config.DNSSECOff, machine{postfixSays, namesOne, ""}, verdict.ByFingerprint, ""},
		{config.DANEFingerprint, config.DNSSECValidate, machine{postfixSays, namesOne, ""}, verdict.ByFingerprint, "as configured"},
		{config.DANEFingerprint, config.DNSSECValidate, machine{withMD5, namesOne, ""}, verdict.ByFingerprint, "digest=md5"},
	} {
		set := func(cfg *config.Config) { cfg.Postfix.DANE, cfg.DNS.DNSSEC = tc.setting, tc.dnssec }
		play(t, tc.machine, set, func(t *testing.T, s *scene) {
			s.behave(t, "", "forwarding")
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			if !s.without {
				s.watch(ctx)
			}
			if got := s.enforcement(t.Context()); got != tc.want || s.changes > 0 {
				t.Errorf("%v: %v, want %v; %d changes", tc.setting, got, tc.want, s.changes)
			}
			if text := s.log.String(); !strings.Contains(text, tc.logs) || strings.Count(text, "\n") > 2 {
				t.Errorf("%v: the log is\n%s", tc.setting, text)
			}
			if s.without {
				return
			}
			faulty := strings.Contains(tc.logs, "md5") || tc.setting == config.DANENative
			if faults := s.faults(s.known()); faulty != (len(faults) > 0) {
				t.Errorf("%v: faults %q", tc.setting, faults)
			}
		})
	}
}

// TestFirstAnswerDoesNotWaitForever: a look that hangs leaves fingerprints, and ends
// in a change.
func TestFirstAnswerDoesNotWaitForever(t *testing.T) {
	m := machine{postfixSays, namesOne, ""}
	play(t, m, nil, func(t *testing.T, s *scene) {
		run := s.host.Run
		s.host.Run = func(ctx context.Context, program string, args ...string) ([]byte, error) {
			time.Sleep(4 * time.Second)
			return run(ctx, program, args...)
		}
		begin := time.Now()
		if got := s.enforcement(t.Context()); got != verdict.ByFingerprint || time.Since(begin) != firstLook {
			t.Errorf("%v after %v", got, time.Since(begin))
		}
		if s.needsDigest(t.Context()) != true || time.Since(begin) != firstLook+printLook {
			t.Errorf("the lines for main.cf waited until %v", time.Since(begin))
		}
		time.Sleep(time.Minute)
		if got := s.enforcement(t.Context()); got != verdict.Native || s.changes != 1 {
			t.Errorf("in the end %v, %d changes", got, s.changes)
		}
	})
}
