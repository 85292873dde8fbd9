package daemon

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
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
	// says takes the place of postconf, once it is set.
	says atomic.Pointer[string]
}

// postconfSays changes what Postfix says, or how it fails, from now on.
func (m *machine) postconfSays(text string) { m.says.Store(&text) }

func (m *machine) host(t *testing.T) *postfix.Host {
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
		says := m.postconf
		if changed := m.says.Load(); changed != nil {
			says = *changed
		}
		switch {
		case says == "fails":
			return nil, errors.New("permission denied")
		case args[0] == "-x":
			return []byte(says), nil
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
	machine *machine
	world   *world.World
	log     record
	changes atomic.Int64
}

// record is what was logged.
type record struct {
	mu   sync.Mutex
	text strings.Builder
}

func (r *record) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.Write(p)
}

func (r *record) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.String()
}

// play runs a test with a clock of its own.
func play(t *testing.T, m *machine, change func(*config.Config), test func(*testing.T, *scene)) {
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
		s := &scene{world: w, machine: m}
		s.mta = newMTA(cfg, Network{DialDNS: w.DNS.Dial, Postfix: m.host(t)}, slog.New(slog.NewTextHandler(&s.log, nil)))
		s.changed = func() { s.changes.Add(1) }
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
		machine *machine
		// resolver is the first one's behaviour, others' is to validate.
		resolver string
		setting  string
		want     verdict.Enforcement
		logs     string
	}{
		{"validating", &machine{postconf: postfixSays, resolvConf: namesOne}, "validating", "", verdict.Native, "its resolver validates: 127.0.0.53:53"},
		{"forwarding", &machine{postconf: postfixSays, resolvConf: namesOne}, "forwarding", "", verdict.ByFingerprint, "127.0.0.53:53 does not validate DNSSEC"},
		{"always AD", &machine{postconf: postfixSays, resolvConf: namesOne}, "always-ad", "", verdict.ByFingerprint, "which nobody signs"},
		{"down", &machine{postconf: postfixSays, resolvConf: namesOne}, "down", "", verdict.ByFingerprint, "level=WARN"},
		{"silent", &machine{postconf: postfixSays, resolvConf: namesOne}, "silent", "", verdict.ByFingerprint, "gives no answer"},
		{"the first of two forwards", &machine{postconf: postfixSays, resolvConf: namesTwo}, "forwarding", "", verdict.ByFingerprint, "127.0.0.53:53 does not"},
		{"the first of two is down", &machine{postconf: postfixSays, resolvConf: namesTwo}, "down", "", verdict.ByFingerprint, "127.0.0.53:53"},
		{"both validate", &machine{postconf: postfixSays, resolvConf: namesTwo}, "validating", "", verdict.Native, "127.0.0.54:53"},
		{"one elsewhere", &machine{postconf: postfixSays, resolvConf: namesOther}, "validating", "", verdict.ByFingerprint, "192.0.2.53:53 is not on this host"},
		{"chroot elsewhere", &machine{postconf: postfixSays, resolvConf: namesOne, chroot: namesOther}, "validating", "", verdict.ByFingerprint, "192.0.2.53:53 is not on this host"},
		{"chroot here", &machine{postconf: postfixSays, resolvConf: namesOther, chroot: namesOne}, "validating", "", verdict.Native, "its resolver validates"},
		{"no DNSSEC level", &machine{postconf: withoutLevel, resolvConf: namesOne}, "validating", "", verdict.ByFingerprint, "smtp_dns_support_level = dnssec"},
		{"no DNS", &machine{postconf: withoutDNS, resolvConf: namesOne}, "validating", "", verdict.ByFingerprint, "smtp_host_lookup = dns in main.cf"},
		{"MX errors ignored", &machine{postconf: ignoring, resolvConf: namesOne}, "validating", "", verdict.ByFingerprint, "ignore_mx_lookup_error = no in main.cf"},
		{"names changed", &machine{postconf: searching, resolvConf: namesOne}, "validating", "", verdict.ByFingerprint, "smtp_dns_resolver_options = in main.cf"},
		{"names changed, named", &machine{postconf: searching, resolvConf: namesOther}, "validating", "127.0.0.53:53", verdict.ByFingerprint, "smtp_dns_resolver_options = in main.cf"},
		{"octal", &machine{postconf: postfixSays, resolvConf: namesOctal}, "validating", "", verdict.ByFingerprint, "cannot tell its resolvers"},
		{"octal in the chroot", &machine{postconf: postfixSays, resolvConf: namesOne, chroot: namesOctal}, "validating", "", verdict.ByFingerprint, "cannot tell its resolvers"},
		{"postconf fails", &machine{postconf: "fails", resolvConf: namesOne}, "validating", "", verdict.ByFingerprint, "cannot be examined"},
		{"no Postfix", &machine{postconf: "", resolvConf: namesOne}, "validating", "", verdict.ByFingerprint, "name the resolver that Postfix uses in [postfix] dane_resolver"},
		{"no Postfix, named", &machine{postconf: "", resolvConf: namesOther}, "validating", "127.0.0.53:53", verdict.Native, "its resolver validates"},
		{"no Postfix, named, forwards", &machine{postconf: "", resolvConf: namesOne}, "forwarding", "127.0.0.53:53", verdict.ByFingerprint, "127.0.0.53:53 does not validate"},
		{"named", &machine{postconf: postfixSays, resolvConf: namesOther}, "validating", "127.0.0.53:53", verdict.Native, "its resolver validates"},
		{"named, postconf fails", &machine{postconf: "fails", resolvConf: namesOther}, "validating", "127.0.0.53:53", verdict.Native, "its resolver validates"},
		{"named elsewhere", &machine{postconf: postfixSays, resolvConf: namesOne}, "validating", "192.0.2.53:53", verdict.ByFingerprint, "192.0.2.53:53 is not on this host"},
		{"MD5, native", &machine{postconf: withMD5, resolvConf: namesOne}, "validating", "", verdict.Native, "level=INFO"},
		{"MD5, fingerprints", &machine{postconf: withMD5, resolvConf: namesOne}, "forwarding", "", verdict.ByFingerprint, `digest=md5 way_out="smtp_tls_fingerprint_digest = sha256 in main.cf"`},
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
	play(t, &machine{postconf: postfixSays, resolvConf: namesOne}, nil, func(t *testing.T, s *scene) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go s.watch(ctx)
		wait := func(d time.Duration, want verdict.Enforcement, records int, changes int64) {
			t.Helper()
			time.Sleep(d)
			synctest.Wait()
			if got := s.enforcement(ctx); got != want || strings.Count(s.log.String(), "\n") != records || s.changes.Load() != changes {
				t.Errorf("%v, want %v; %d changes, want %d; want %d records of\n%s", got, want, s.changes.Load(), changes, records, s.log.String())
			}
		}
		wait(time.Second, verdict.Native, 1, 0)
		wait(time.Hour, verdict.Native, 1, 0)
		s.behave(t, "", "forwarding")
		wait(lookAgain+time.Second, verdict.ByFingerprint, 2, 1)
		wait(time.Hour, verdict.ByFingerprint, 2, 1)
		s.behave(t, "", "validating")
		wait(oftenAgain+time.Second, verdict.Native, 3, 2)
		// Silence says nothing of what it does when it speaks, but not for ever.
		s.behave(t, "", "silent")
		wait(lookAgain, verdict.Native, 4, 2)
		s.behave(t, "", "validating")
		wait(oftenAgain+time.Second, verdict.Native, 5, 2)
		s.behave(t, "", "silent")
		wait(lookAgain, verdict.Native, 6, 2)
		wait(10*time.Minute+2*oftenAgain-lookAgain, verdict.ByFingerprint, 7, 3)
		wait(time.Hour, verdict.ByFingerprint, 7, 3)
		s.behave(t, "", "validating")
		wait(oftenAgain+time.Second, verdict.Native, 8, 4)
		s.behave(t, "", "forwarding")
		wait(lookAgain+time.Second, verdict.ByFingerprint, 9, 5)
		if !strings.Contains(s.log.String(), `way_out="run a validating resolver on this host`) {
			t.Errorf("the log does not tell the way out:\n%s", s.log.String())
		}
	})
}

// TestBlindLooks: a look that finds nothing out changes nothing, until what is known is
// stale; one that finds something against it does at once.
func TestBlindLooks(t *testing.T) {
	lose := func(words ...string) func(*testing.T, *scene) {
		return func(t *testing.T, s *scene) {
			t.Helper()
			if err := s.world.DNS.SetStatus(".", "A", words...); err != nil {
				t.Fatal(err)
			}
		}
	}
	postconf := func(says string) func(*testing.T, *scene) {
		return func(_ *testing.T, s *scene) { s.machine.postconfSays(says) }
	}
	resolvers := func(text string) func(*testing.T, *scene) {
		return func(t *testing.T, s *scene) {
			t.Helper()
			if err := os.WriteFile(filepath.Join(s.host.Root, "etc/resolv.conf"), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	behave := func(behaviour string) func(*testing.T, *scene) {
		return func(t *testing.T, s *scene) { t.Helper(); s.behave(t, "", behaviour) }
	}
	for _, tc := range []struct {
		name  string
		spoil func(*testing.T, *scene)
		mend  func(*testing.T, *scene)
		// once: native is left at once.
		once bool
	}{
		{"postconf fails", postconf("fails"), postconf(postfixSays), false},
		{"postconf says nothing", postconf("nothing = said\n"), postconf(postfixSays), false},
		{"one question fails", lose("servfail"), lose("normal"), false},
		{"one question is lost", lose("timeout"), lose("normal"), false},
		{"the resolver is silent", behave("silent"), behave("validating"), false},
		{"nobody listens", behave("down"), behave("validating"), false},
		{"it validates no more", behave("forwarding"), behave("validating"), true},
		{"AD always", behave("always-ad"), behave("validating"), true},
		{"Postfix set so", postconf(ignoring), postconf(postfixSays), true},
		{"another resolver, elsewhere", resolvers(namesOther), resolvers(namesOne), true},
		{"not plain", resolvers(namesOctal), resolvers(namesOne), true},
		{"a silent resolver more", func(t *testing.T, s *scene) {
			t.Helper()
			s.behave(t, "127.0.0.54:53", "silent")
			resolvers(namesTwo)(t, s)
		}, resolvers(namesOne), true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			play(t, &machine{postconf: postfixSays, resolvConf: namesOne}, nil, func(t *testing.T, s *scene) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				wait := func(d time.Duration, want verdict.Enforcement, changes int64) {
					t.Helper()
					time.Sleep(d)
					synctest.Wait()
					if got := s.enforcement(ctx); got != want || s.changes.Load() != changes {
						t.Errorf("%v, want %v; %d changes, want %d\n%s", got, want, s.changes.Load(), changes, s.log.String())
					}
				}
				go s.watch(ctx)
				wait(time.Second, verdict.Native, 0)
				tc.spoil(t, s)
				if tc.once {
					wait(lookAgain+10*time.Second, verdict.ByFingerprint, 1)
				} else {
					wait(lookAgain+10*time.Second, verdict.Native, 0)
					if text := s.log.String(); strings.Count(text, "level=WARN") != 1 || !strings.Contains(text, "as before") {
						t.Errorf("it is not warned of once:\n%s", text)
					}
					wait(10*time.Minute+2*oftenAgain-lookAgain, verdict.ByFingerprint, 1)
				}
				tc.mend(t, s)
				wait(lookAgain+time.Second, verdict.Native, 2)
			})
		})
	}
}

// TestBlindFromTheStart: what was never found able is trusted with nothing.
func TestBlindFromTheStart(t *testing.T) {
	play(t, &machine{postconf: "fails", resolvConf: namesOne}, nil, func(t *testing.T, s *scene) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		s.watch(ctx)
		if s.enforcement(t.Context()) != verdict.ByFingerprint || s.changes.Load() != 0 || strings.Count(s.log.String(), "\n") != 1 {
			t.Errorf("%d changes\n%s", s.changes.Load(), s.log.String())
		}
	})
}

// TestRefusedStays: a postconf that fails does not make anyone forget that Postfix
// cannot do it, even where the resolver is named.
func TestRefusedStays(t *testing.T) {
	named := func(cfg *config.Config) { cfg.Postfix.DANEResolver = netip.MustParseAddrPort("127.0.0.53:53") }
	play(t, &machine{postconf: ignoring, resolvConf: namesOne}, named, func(t *testing.T, s *scene) {
		s.look(t.Context())
		s.machine.postconfSays("fails")
		for range 3 {
			s.look(t.Context())
		}
		if s.enforcement(t.Context()) != verdict.ByFingerprint || len(s.faults(s.known())) != 1 {
			t.Errorf("it is forgotten: %q\n%s", s.faults(s.known()), s.log.String())
		}
		s.machine.postconfSays(postfixSays)
		s.look(t.Context())
		if s.enforcement(t.Context()) != verdict.Native {
			t.Errorf("it is not mended\n%s", s.log.String())
		}
	})
}

// TestInherit: a new configuration begins with what is known, if it is the same that
// it wants to know.
func TestInherit(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*config.Config)
		want   verdict.Enforcement
	}{
		{"nothing", func(*config.Config) {}, verdict.Native},
		{"another resolver", func(cfg *config.Config) { cfg.Postfix.DANEResolver = netip.MustParseAddrPort("127.0.0.54:53") }, verdict.ByFingerprint},
		{"no DNSSEC", func(cfg *config.Config) { cfg.DNS.DNSSEC = config.DNSSECOff }, verdict.ByFingerprint},
		{"fingerprints", func(cfg *config.Config) { cfg.Postfix.DANE = config.DANEFingerprint }, verdict.ByFingerprint},
	} {
		t.Run(tc.name, func(t *testing.T) {
			play(t, &machine{postconf: postfixSays, resolvConf: namesOne}, nil, func(t *testing.T, s *scene) {
				if got := s.enforcement(t.Context()); got != verdict.Native {
					t.Fatalf("at first %v", got)
				}
				s.behave(t, "", "silent")
				cfg := config.Default()
				tc.change(cfg)
				next := newMTA(cfg, Network{DialDNS: s.world.DNS.Dial, Postfix: &s.host}, s.mta.log)
				next.changed = func() { s.changes.Add(1) }
				next.inherit(s.mta)
				begin := time.Now()
				got := next.enforcement(t.Context())
				if got != tc.want || got == verdict.Native && time.Since(begin) > 0 {
					t.Errorf("%v after %v, want %v", got, time.Since(begin), tc.want)
				}
				next.look(t.Context())
				if got := next.enforcement(t.Context()); got != tc.want || s.changes.Load() > 0 {
					t.Errorf("after a look %v, %d changes", got, s.changes.Load())
				}
				time.Sleep(10 * time.Minute)
				next.look(t.Context())
				if got := next.enforcement(t.Context()); got != verdict.ByFingerprint {
					t.Errorf("for ever %v", got)
				}
			})
		})
	}
}

// TestObeys: the operator's word goes before what is found, which is told all the same.
func TestObeys(t *testing.T) {
	for _, tc := range []struct {
		setting config.DANE
		dnssec  config.DNSSEC
		machine *machine
		want    verdict.Enforcement
		logs    string
	}{
		{config.DANENative, config.DNSSECValidate, &machine{postconf: postfixSays, resolvConf: namesOne}, verdict.Native, "level=ERROR"},
		{config.DANENative, config.DNSSECValidate, &machine{postconf: ignoring, resolvConf: namesOne}, verdict.Native, "level=ERROR"},
		{config.DANENative, config.DNSSECValidate, &machine{postconf: ignoring, resolvConf: namesOne}, verdict.Native, "ignore_mx_lookup_error = no"},
		{config.DANENative, config.DNSSECValidate, &machine{postconf: "fails", resolvConf: namesOne}, verdict.Native, "level=WARN"},
		{config.DANENative, config.DNSSECValidate, &machine{postconf: "fails", resolvConf: namesOne}, verdict.Native, "cannot be examined"},
		{config.DANENative, config.DNSSECValidate, &machine{postconf: "", resolvConf: namesOne}, verdict.Native, "whether it can do it cannot be seen"},
		{config.DANENative, config.DNSSECOff, &machine{postconf: postfixSays, resolvConf: namesOne}, verdict.ByFingerprint, ""},
		{config.DANEFingerprint, config.DNSSECValidate, &machine{postconf: postfixSays, resolvConf: namesOne}, verdict.ByFingerprint, "as configured"},
		{config.DANEFingerprint, config.DNSSECValidate, &machine{postconf: withMD5, resolvConf: namesOne}, verdict.ByFingerprint, "digest=md5"},
	} {
		set := func(cfg *config.Config) { cfg.Postfix.DANE, cfg.DNS.DNSSEC = tc.setting, tc.dnssec }
		play(t, tc.machine, set, func(t *testing.T, s *scene) {
			s.behave(t, "", "forwarding")
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			if !s.without {
				s.watch(ctx)
			}
			if got := s.enforcement(t.Context()); got != tc.want || s.changes.Load() > 0 {
				t.Errorf("%v: %v, want %v; %d changes", tc.setting, got, tc.want, s.changes.Load())
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
	m := &machine{postconf: postfixSays, resolvConf: namesOne}
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
		if got := s.enforcement(t.Context()); got != verdict.Native || s.changes.Load() != 1 {
			t.Errorf("in the end %v, %d changes", got, s.changes.Load())
		}
	})
}
