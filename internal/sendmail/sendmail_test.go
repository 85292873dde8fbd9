package sendmail

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tlsverdict/internal/program"
)

// d013 is what Sendmail 8.18.1 of Debian 13 says.
const d013 = `Version 8.18.1
 Compiled with: DANE HAVE_SSL_CTX_dane_enable MAX_TLSA_RR=64 DNSMAP
		IPV6_FULL LDAPMAP SASLv2 SCANF SOCKETMAP STARTTLS
		TLS_EC XDEBUG
    OS Defines: HASFCHOWN STARTTLS_NOT
Kernel symbols:	/boot/vmlinux
     Conf file:	/etc/mail/submit.cf (default for MSP)
   FFR Defines: _FFR_BADRCPT_SHUTDOWN _FFR_MTA_STS
		_FFR_TLS_ALTNAMES _FFR_M_ONLY_IPV4
Canonical name: mta
============ SYSTEM IDENTITY (after readcf) ============
`

// cf has the lines of a sendmail.cf that are looked at.
const cf = `#O CACertFile
Kresolve host -a<OKR> -T<TEMP>
Ktls socket -d5 -T<TMPF> inet:8461@127.0.0.1
Ktlsverdictlog syslog -S -Linfo
O ConnectionCacheSize=2
O CACertFile=/etc/ssl/certs/ca-certificates.crt
O DANE=true
STlsVerdict_judge
O ConnectionCacheSize=1
`

func machine(t *testing.T, programs ...string) program.Machine {
	t.Helper()
	m := program.Machine{Root: t.TempDir(), Path: []string{"/usr/sbin"}}
	for _, p := range programs {
		write(t, m, "usr/sbin/"+p, "")
	}
	m.Runner = func(context.Context, string, ...string) ([]byte, error) { return []byte(d013), nil }
	return m
}

func write(t *testing.T, m program.Machine, file, text string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(m.At(file)), 0o755), os.WriteFile(m.At(file), []byte(text), 0o755)); err != nil {
		t.Fatal(err)
	}
}

func TestExamine(t *testing.T) {
	m := machine(t, "sendmail-mta")
	write(t, m, CF, cf)
	write(t, m, MC, "")
	write(t, m, "/usr/share/sendmail-cf/feature/x.m4", "")
	s, err := Examine(t.Context(), m)
	if err != nil || s.Version != "8.18.1" || !s.Compiled["DANE"] || !s.Compiled["_FFR_TLS_ALTNAMES"] || s.Compiled["STARTTLS_NOT"] || s.Compiled["Canonical"] || len(s.Lacks()) > 0 {
		t.Errorf("%+v, %v", s, err)
	}
	if !s.Asks || s.STS || s.Stale || s.CFDir != "/usr/share/sendmail-cf" || s.Address("tls") != "inet:8461@127.0.0.1" || s.Address("resolve") != "" || s.Address("none") != "" {
		t.Errorf("%+v", s)
	}
	if s.Options["ConnectionCacheSize"] != "1" || s.Options["CACertFile"] != "/etc/ssl/certs/ca-certificates.crt" {
		t.Errorf("%q", s.Options)
	}

	if err := os.Chtimes(m.At(MC), time.Time{}, time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	write(t, m, CF, "O StrictTransportSecurity=true\nKsts inet:8461@127.0.0.1\n")
	if s, err = Examine(t.Context(), m); err != nil || !s.Stale || !s.STS || s.Asks {
		t.Errorf("FEATURE(sts), not made since: %+v, %v", s, err)
	}
}

// TestWhose: a sendmail that is another mail server's is none.
func TestWhose(t *testing.T) {
	for programs, want := range map[string]string{
		"": "", "sendmail": "sendmail", "sendmail postconf": "", "sendmail exim4": "", "sendmail postconf sendmail.sendmail": "sendmail.sendmail", "sendmail-mta exim4": "sendmail-mta",
	} {
		m := machine(t, strings.Fields(programs)...)
		write(t, m, CF, cf)
		s, err := Examine(t.Context(), m)
		if err != nil || (s.Version != "") != (want != "") || want != "" && s.Program != m.At("/usr/sbin", want) {
			t.Errorf("%s: %q, %v", programs, s.Program, err)
		}
	}
	if s, err := Examine(t.Context(), machine(t, "sendmail-mta")); err != nil || s.Version != "" {
		t.Errorf("without a configuration: %+v, %v", s, err)
	}
	m := machine(t, "sendmail")
	write(t, m, CF, cf)
	m.Runner = func(context.Context, string, ...string) ([]byte, error) { return nil, program.ErrSilent }
	if _, err := Examine(t.Context(), m); !errors.Is(err, ErrExamine) {
		t.Errorf("one that fails: %v", err)
	}
}

func TestLacks(t *testing.T) {
	if got := built("Version 8.17.2\n Compiled with: SOCKETMAP\n").Lacks(); !slices.Equal(got, []string{"STARTTLS", "_FFR_MTA_STS", "_FFR_TLS_ALTNAMES"}) {
		t.Errorf("%q", got)
	}
}

func FuzzRead(f *testing.F) {
	f.Add(cf)
	f.Add("O =\nK\nK \nO\n")
	f.Fuzz(func(t *testing.T, text string) {
		var s Setup
		s.read(text)
		for name := range s.Maps {
			s.Address(name)
		}
	})
}
