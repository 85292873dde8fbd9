package postfix

import (
	"context"
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"

	"tlsverdict/internal/program"
)

// many is a host with two instances; the second one's postconf takes -c.
func many(_ context.Context, name string, args ...string) ([]byte, error) {
	if strings.HasSuffix(name, "/postmulti") {
		return []byte("-               -               y         /etc/postfix\nout             -               y         /etc/postfix-out\n"), nil
	}
	second := args[0] == "-c"
	if second {
		args = args[2:]
	}
	switch {
	case args[0] == "-x" && second:
		return []byte("mail_version = 3.7.11\nconfig_directory = /etc/postfix-out\nqueue_directory = /var/spool/out\ncompatibility_level = 3.6\nsmtp_dns_support_level = dnssec\n" +
			"smtp_host_lookup = dns\nignore_mx_lookup_error = no\nsmtp_dns_resolver_options =\ndefault_transport = smtp\nrelay_transport = relay\n"), nil
	case args[0] == "-x":
		return []byte(debian + "config_directory = /etc/postfix\ndefault_transport = smtp\nrelay_transport = relay\nsmtp_tls_loglevel = 0\n"), nil
	case args[0] == "-F" && second:
		return []byte("smtp/unix/chroot = x\nsmtp/unix/command = smtp\n"), nil
	case args[0] == "-F":
		return []byte("smtp/inet/chroot = y\nsmtp/inet/command = smtpd\nsmtp/unix/chroot = y\nsmtp/unix/command = smtp\nrelay/unix/chroot = n\n" +
			"relay/unix/command = smtp -o smtp_tls_loglevel=1\nlmtp/unix/chroot = y\nlmtp/unix/command = lmtp\ntls26/unix/chroot = y\ntls26/unix/command = smtp\n"), nil
	case args[0] == "-P" && !second:
		return []byte("relay/unix/smtp_tls_loglevel = 1\nrelay/unix/syslog_name = postfix/$service_name\nsmtp/inet/smtpd_tls_security_level = may\n"), nil
	}
	return nil, nil
}

func TestInstances(t *testing.T) {
	f := &fake{}
	h := f.host(t, "usr/sbin/postconf")
	h.Run = many
	all, err := h.Instances(t.Context(), "smtp_tls_loglevel")
	if err != nil || len(all) != 2 {
		t.Fatalf("%d instances, %v", len(all), err)
	}
	first := all[0]
	if first.Config != "/etc/postfix" || !first.Default || first.Version != "3.7.11" || len(first.Clients) != 3 {
		t.Errorf("the default instance: %+v", first)
	}
	var outward []string
	for _, c := range first.Outward() {
		outward = append(outward, c.Service)
	}
	if !reflect.DeepEqual(outward, []string{"relay/unix", "smtp/unix"}) {
		t.Errorf("mail leaves by %v", outward)
	}
	relay := first.Clients[0]
	if relay.Service != "relay/unix" || relay.Settings["smtp_tls_loglevel"] != "1" || !relay.Own["smtp_tls_loglevel"] || relay.Setup.Chrooted || relay.Unclear != nil {
		t.Errorf("relay: %+v", relay)
	}
	if smtp := first.Clients[1]; smtp.Settings["smtp_tls_loglevel"] != "0" || len(smtp.Own) != 0 || !smtp.Setup.Chrooted {
		t.Errorf("smtp: %+v", smtp)
	}
	if out := all[1]; out.Config != "/etc/postfix-out" || out.Default || len(out.Clients) != 1 || !errors.Is(out.Clients[0].Unclear, ErrExamine) {
		t.Errorf("the other instance: %+v", out)
	}
}

// TestNoInstances: none is no error, and what cannot be asked is one.
func TestNoInstances(t *testing.T) {
	if all, err := new(Host).Instances(t.Context()); len(all) != 0 || err != nil {
		t.Errorf("%v, %v", all, err)
	}
	f := &fake{}
	h := f.host(t, "usr/sbin/postconf")
	h.Run = func(ctx context.Context, name string, args ...string) ([]byte, error) {
		if strings.HasSuffix(name, "/postmulti") {
			return nil, program.ErrSilent
		}
		return many(ctx, name, args...)
	}
	if all, err := h.Instances(t.Context()); len(all) != 1 || !errors.Is(err, ErrExamine) {
		t.Errorf("postmulti fails: %d, %v", len(all), err)
	}
	h.Run = func(context.Context, string, ...string) ([]byte, error) { return nil, os.ErrPermission }
	if all, err := h.Instances(t.Context()); len(all) != 0 || !errors.Is(err, ErrExamine) {
		t.Errorf("postconf fails: %d, %v", len(all), err)
	}
}
