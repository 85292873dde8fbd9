package daemon

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"tlsverdict/internal/control"
	"tlsverdict/internal/nexthop"
	"tlsverdict/internal/signal"
	"tlsverdict/internal/verdict"
	"tlsverdict/postfixmap"
)

// controlMode is that of the directory of the control socket, as systemd makes it.
const controlMode = 0o755

// maxControl is how many connections the control socket takes.
const maxControl = 4

// control opens the control socket. Without one policyd answers all the same. The function
// that it returns closes it.
func (d *daemon) control(ctx context.Context) (stop func()) {
	path := d.cfg.Control.Socket
	if path == "" {
		return func() {}
	}
	address, err := postfixmap.ParseAddress("unix:" + path)
	if err == nil {
		// As the state directory, it is made where nobody did: systemd has made it. What
		// else is wrong with it shows when the socket is opened.
		_ = os.Mkdir(filepath.Dir(path), controlMode)
		l, err2 := address.Listen(ctx, 0o600)
		if err = err2; err == nil {
			server := &postfixmap.Server{Handler: &control.Handler{Backend: d}, MaxConnections: maxControl, ErrorLog: d.log}
			go func() {
				// It ends with the server.
				_ = server.Serve(ctx, l)
			}()
			return func() { _ = server.Close() }
		}
	}
	d.state.lacksControl(err)
	d.log.Warn("the control socket cannot be opened; policyd pins and policyd refresh do not work", "socket", path, "error", err)
	return func() {}
}

// Pins implements control.Backend.
func (d *daemon) Pins() ([]signal.Pin, error) { return d.store.Pins() }

// RemovePin implements control.Backend.
func (d *daemon) RemovePin(host string) (found bool, err error) {
	host, err = nexthop.Normalize(host)
	if err != nil {
		return false, err
	}
	s := d.stack.Load()
	err = d.store.UpdatePin(host, func(old signal.Pin, there bool) (signal.Pin, bool) {
		found = there
		// In a fleet what is left of it keeps others from bringing it back.
		return old, there && s.fleet != nil
	})
	if err == nil && found && s.fleet != nil {
		err = s.fleet.RemovePin(host)
	}
	if err != nil || !found {
		return false, err
	}
	d.log.Warn("a pin is removed by the operator", "host", host)
	s.Engine.Drop(verdict.FromBanner)
	for _, domain := range s.banners.domains(host) {
		s.Engine.Forget(domain)
	}
	return true, nil
}

// Refresh implements control.Backend. What is known to demand something is not thrown
// away before there is something else: a policy that cannot be fetched anew holds to its
// end, and so do pins.
func (d *daemon) Refresh(ctx context.Context, dest nexthop.Destination) (r control.Refreshed) {
	s := d.stack.Load()
	if _, known := s.Engine.Cached(dest); known {
		r.Before = s.Responder.Report(s.Engine.Explain(ctx, dest))
	}
	if err := s.refetch(ctx, dest.Name); err != nil {
		r.Problem = fmt.Sprintf("the MTA-STS policy of %s could not be fetched anew, and one that is kept holds: %v", dest.Name, err)
	}
	s.Engine.Forget(dest.Name)
	x := s.Engine.Explain(ctx, dest)
	s.banners.renew(&x.Facts)
	r.After = s.Responder.Report(x)
	return r
}
