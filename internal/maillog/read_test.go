package maillog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
)

func read(t *testing.T, log string) (string, Totals) {
	t.Helper()
	var out []string
	totals, err := Read(t.Context(), strings.NewReader(log), func(d Delivery) {
		out = append(out, fmt.Sprintf("%s %s %s %s", d.Domain, d.Host, d.TLS, d.Outcome))
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(out, "\n"), totals
}

func TestRead(t *testing.T) {
	for name, c := range map[string]struct{ log, want string }{
		"postfix": {
			`Nov 23 19:57:25 mta postfix/smtp[1952]: Verified TLS connection established to mx.sts.example[198.51.100.122]:25: TLSv1.3 with cipher TLS_AES_128_GCM_SHA256 (128/128 bits)
Nov 23 19:57:25 mta postfix/smtp[1958]: 7F184: to=<u@Plain.Example>, relay=mx.plain.example[198.51.100.143]:25, delay=0.04, delays=0/0.03/0/0, dsn=2.0.0, status=sent (250 2.0.0 stored)
Nov 23 19:57:25 mta postfix/smtp[1952]: 7D0D4: to=<u@sts.example>, relay=mx.sts.example[198.51.100.122]:25, delay=0.08, dsn=2.0.0, status=sent (250 to=<x@y>, relay=z)
Nov 23 19:57:26 mta postfix/smtp[1952]: 7D0D4: to=<v@sts.example>, orig_to=<v>, relay=mx.sts.example[198.51.100.122]:25, delay=0.08, dsn=2.0.0, status=sent (250 ok)
`,
			"plain.example mx.plain.example clear sent\nsts.example mx.sts.example verified sent\nsts.example mx.sts.example verified sent",
		},
		"postfix, the next message of the process is another session": {
			`Nov 23 19:57:25 mta postfix/smtp[1]: Trusted TLS connection established to mx.example.com[192.0.2.1]:25: TLSv1.3
Nov 23 19:57:25 mta postfix/smtp[1]: A1: to=<u@example.com>, relay=mx.example.com[192.0.2.1]:25, status=sent (250 ok)
Nov 23 19:57:26 mta postfix/smtp[1]: A2: to=<u@example.com>, relay=mx.example.com[192.0.2.1]:25, status=sent (250 ok)
Nov 23 19:57:27 mta postfix/smtp[1]: Trusted TLS connection reused to mx.example.com[192.0.2.1]:25: TLSv1.3
Nov 23 19:57:27 mta postfix/smtp[1]: A3: to=<u@example.com>, relay=mx.example.com[192.0.2.1]:25, conn_use=2, status=sent (250 ok)
`,
			"example.com mx.example.com trusted sent\nexample.com mx.example.com clear sent\nexample.com mx.example.com trusted sent",
		},
		"postfix, TLS given up": {
			`Nov 23 19:57:25 mta postfix/smtp[1]: Untrusted TLS connection established to mx.example.com[2001:db8::1]:25: TLSv1.3
Nov 23 19:57:25 mta postfix/smtp[1]: A1: Cannot start TLS: handshake failure
Nov 23 19:57:25 mta postfix/smtp[1]: A1: to=<u@example.com>, relay=mx.example.com[2001:db8::1]:25, status=sent (250 ok)
Nov 23 19:57:25 mta postfix/smtp[2]: Anonymous TLS connection established to mx.example.com[2001:db8::1]:26: TLSv1.3
Nov 23 19:57:25 mta postfix/smtp[2]: A2: to=<u@example.com>, relay=mx.example.com[2001:db8::1]:26, status=sent (250 ok)
`,
			"example.com mx.example.com clear sent\nexample.com mx.example.com encrypted sent",
		},
		"postfix 3.11": {
			`2026-11-23T19:57:25.000001+00:00 mta postfix-out/smtp[1]: A1: to=<u@a.example>, relay=mx.a.example[192.0.2.1]:25, delay=1, tls=may:none, dsn=2.0.0, status=sent (250 ok)
2026-11-23T19:57:25.000001+00:00 mta postfix-out/smtp[1]: A2: to=<u@b.example>, relay=mx.b.example[192.0.2.1]:25, delay=1, tls=dane-only, dsn=2.0.0, status=sent (250 ok)
2026-11-23T19:57:25.000001+00:00 mta postfix-out/smtp[1]: A3: to=<u@c.example>, relay=mx.c.example[192.0.2.1]:25, delay=1, tls=encrypt/(requiretls), dsn=2.0.0, status=sent (250 ok)
`,
			"a.example mx.a.example clear sent\nb.example mx.b.example trusted sent\nc.example mx.c.example encrypted sent",
		},
		"postfix, what is no delivery to a host": {
			`Nov 23 19:57:25 mta postfix/smtp[1]: A1: to=<u@example.com>, relay=none, delay=1, dsn=4.7.5, status=deferred (no)
Nov 23 19:57:25 mta postfix/smtp[1]: A1: to=<root>, relay=mx.example.com[192.0.2.1]:25, status=sent (250 ok)
Nov 23 19:57:25 mta postfix/local[1]: A1: to=<u@example.net>, relay=local, status=sent (delivered)
Nov 23 19:57:25 mta postfix/smtpd[1]: Anonymous TLS connection established from c.example[192.0.2.9]: TLSv1.3
Nov 23 19:57:25 mta postfix/smtp[1]: A1: to=<u@example.org>, relay=mx.example.org[192.0.2.2]:25, dsn=5.1.1, status=bounced (550)
`,
			"example.com  unlogged deferred\nexample.org mx.example.org clear bounced",
		},
		"exim": {
			`2026-05-01 12:00:00 1r2-1-0a <= me@here.example H=c [192.0.2.9] X=TLS1.3:a:256 CV=no
2026-05-01 12:00:00 1r2-1-0a => u@dane.example R=d T=remote_smtp H=mx.dane.example [192.0.2.1] X=TLS1.3:TLS_AES_256:256 CV=dane DN="/CN=mx CV=no H=z" C="250 X=1"
2026-05-01 12:00:01 1r2-1-0a -> v@dane.example R=d T=remote_smtp H=mx.dane.example [192.0.2.1] X=TLS1.3:TLS_AES_256:256 CV=dane C="250"
2026-05-01 12:00:02 +0200 [12] 1r2-2-0a => User <u@sts.example> R=d T=remote_smtp H=MX.sts.example [192.0.2.2] X=TLS1.2:a:256 CV=yes
2026-05-01 12:00:02 1r2-3-0a => u@plain.example R=d T=remote_smtp H=mx.plain.example [192.0.2.3] C="250 ok X=TLS CV=dane"
2026-05-01 12:00:02 1r2-3-0a => x <x@here.example> R=local T=mail_spool
2026-05-01 12:00:02 1r2-4-0a == u@wait.example R=d T=remote_smtp defer (-37) H=mx.wait.example [192.0.2.4]: a TLS session is required
2026-05-01 12:00:02 1r2-5-0a ** u@gone.example R=d T=remote_smtp H=mx.gone.example [192.0.2.5]: 550
May  1 12:00:03 mta exim[77]: 2026-05-01 12:00:03 1r2-6-0a => u@log.example R=d T=t H=mx.log.example [192.0.2.6] X=TLS1.3:a:256 CV=no
`,
			"dane.example mx.dane.example verified sent\ndane.example mx.dane.example verified sent\nsts.example mx.sts.example trusted sent\nplain.example mx.plain.example clear sent\n" +
				"wait.example mx.wait.example clear deferred\ngone.example mx.gone.example clear bounced\nlog.example mx.log.example encrypted sent",
		},
		"sendmail": {
			`May  1 12:00:00 mta sendmail[5]: STARTTLS=client, relay=mx.sts.example., version=TLSv1.3, verify=OK, cipher=TLS_AES_256_GCM_SHA384, bits=256/256
May  1 12:00:00 mta sendmail[5]: 4A1: to=<u@sts.example>,<v@sts.example>, ctladdr=<me@here>, delay=00:00:01, xdelay=00:00:01, mailer=esmtp, pri=30, relay=mx.sts.example. [192.0.2.1], dsn=2.0.0, stat=Sent (ok)
May  1 12:00:01 mta sm-mta[6]: 4A2: STARTTLS=client, relay=mx.dane.example., version=TLSv1.3, verify=TRUSTED, cipher=a, bits=256/256
May  1 12:00:01 mta sm-mta[6]: 4A2: to=<u@dane.example>, delay=00:00:01, mailer=esmtp, pri=30, relay=mx.dane.example. [192.0.2.2], dsn=2.0.0, stat=Sent (ok)
May  1 12:00:01 mta sm-mta[7]: 4A3: to=<u@wait.example>, delay=00:00:01, mailer=esmtp, pri=30, relay=mx.wait.example. [192.0.2.3], dsn=4.7.0, stat=Deferred: 403 4.7.0 TLS handshake failed.
May  1 12:00:01 mta sm-mta[8]: 4A4: to=root, delay=00:00:01, mailer=local, pri=30, dsn=2.0.0, stat=Sent
May  1 12:00:01 mta sm-mta[9]: 4A5: to=<u@gone.example>, delay=00:00:01, mailer=esmtp, pri=30, relay=mx.gone.example. [192.0.2.3], dsn=5.1.1, stat=User unknown
`,
			"sts.example mx.sts.example trusted sent\nsts.example mx.sts.example trusted sent\ndane.example mx.dane.example verified sent\nwait.example mx.wait.example clear deferred\ngone.example mx.gone.example clear bounced",
		},
		"nothing of ours": {"May  1 12:00:01 mta cron[9]: (root) CMD\n\x00\xff\n\n[]: \n2026-05-01 12:00:00 \n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got, _ := read(t, c.log); got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}

// TestTotals: what a log cannot say is told.
func TestTotals(t *testing.T) {
	_, silent := read(t, "May  1 12:00:01 mta postfix/smtp[1]: A1: to=<u@a.example>, relay=mx.a.example[192.0.2.1]:25, status=sent (250 ok)\n")
	if silent.TLSLogged[Postfix] || silent.Checked[Postfix] || silent.Deliveries[Postfix] != 1 || silent.Lines != 1 {
		t.Errorf("%+v", silent)
	}
	_, some := read(t, "May  1 12:00:01 mta postfix/smtp[1]: Untrusted TLS connection established to mx.a.example[192.0.2.1]:25: TLSv1.3\n")
	if !some.TLSLogged[Postfix] || some.Checked[Postfix] {
		t.Errorf("%+v", some)
	}
	long := "May  1 12:00:01 mta postfix/smtp[1]: A1: to=<u@a.example>, relay=mx.a.example[192.0.2.1]:25, status=sent (" + strings.Repeat("x", 1<<20) + ")\n"
	got, cut := read(t, long+long)
	if cut.Cut != 2 || cut.Lines != 2 || strings.Count(got, "a.example mx.a.example clear sent") != 2 || cut.Octets != int64(2*len(long)) {
		t.Errorf("%+v %q", cut, got)
	}
}

// broken fails after a while.
type broken struct{ left int }

func (b *broken) Read(p []byte) (int, error) {
	if b.left--; b.left < 0 {
		return 0, errors.New("disk")
	}
	return copy(p, "a line\n"), nil
}

func TestErrors(t *testing.T) {
	if _, err := Read(t.Context(), &broken{3}, func(Delivery) {}); err == nil || !strings.Contains(err.Error(), "maillog: disk") {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Read(ctx, strings.NewReader("x\n"), func(Delivery) {}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte("May  1 12:00:01 mta postfix/smtp[1]: Untrusted TLS connection established to mx.a.example[192.0.2.1]:25: TLSv1.3\nMay  1 12:00:01 mta postfix/smtp[1]: A1: to=<u@a.example>, relay=mx.a.example[192.0.2.1]:25, tls=may, status=sent (250 ok)\n"))
	f.Add([]byte("2026-05-01 12:00:00 1r2 => u@d.example H=mx [192.0.2.1] X=T CV=dane C=\"250\"\n"))
	f.Add([]byte("May  1 12:00:01 mta sm-mta[6]: STARTTLS=client, relay=mx., verify=OK\nMay  1 12:00:01 mta sm-mta[6]: 4A2: to=<u@d.example>,<v@e.example>, mailer=esmtp, relay=mx. [192.0.2.2], stat=Sent\n"))
	f.Fuzz(func(t *testing.T, log []byte) {
		totals, err := Read(t.Context(), bytes.NewReader(log), func(d Delivery) {
			if d.Domain == "" || d.Domain != strings.ToLower(d.Domain) || d.Outcome < Sent || d.Outcome > Bounced || d.TLS > Verified {
				t.Errorf("%+v", d)
			}
		})
		if err != nil || totals.Octets != int64(len(log)) {
			t.Errorf("%+v of %d, %v", totals, len(log), err)
		}
	})
}

// BenchmarkRead reads lines of which half are about deliveries.
func BenchmarkRead(b *testing.B) {
	var log bytes.Buffer
	for i := range 1000 {
		fmt.Fprintf(&log, "Nov 23 19:57:25 mta postfix/smtp[%d]: Verified TLS connection established to mx.d%d.example[198.51.100.122]:25: TLSv1.3 with cipher TLS_AES_128_GCM_SHA256 (128/128 bits)\n", i%50, i)
		fmt.Fprintf(&log, "Nov 23 19:57:25 mta postfix/smtp[%d]: 7D0D4B%d: to=<u@d%d.example>, relay=mx.d%d.example[198.51.100.122]:25, delay=0.08, delays=0/0/0/0, dsn=2.0.0, status=sent (250 2.0.0 stored)\n", i%50, i, i, i)
		fmt.Fprintf(&log, "Nov 23 19:57:25 mta postfix/qmgr[9]: 7D0D4B%d: removed\nNov 23 19:57:25 mta postfix/smtpd[9]: disconnect from c[192.0.2.9] ehlo=1 mail=1 rcpt=1 data=1 quit=1 commands=5\n", i)
	}
	b.SetBytes(int64(log.Len()))
	b.ReportAllocs()
	for b.Loop() {
		if totals, err := Read(b.Context(), bytes.NewReader(log.Bytes()), func(Delivery) {}); err != nil || totals.Deliveries[Postfix] != 1000 {
			b.Fatal(totals, err)
		}
	}
}
