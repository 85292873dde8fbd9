package world

// World is everything outside of the host that mail is sent from.
type World struct {
	DNS  *DNS
	Web  *Web
	Mail *Mail
}

// New returns a world that holds a root zone and nothing else. Close ends it. In a
// synctest bubble it must be made and closed inside.
func New() (*World, error) {
	d, err := newDNS()
	if err != nil {
		return nil, err
	}
	w, err := newWeb(d)
	if err != nil {
		return nil, err
	}
	return &World{DNS: d, Web: w, Mail: newMail(d, w)}, nil
}

// Close ends every connection to a policy host.
func (w *World) Close() { w.Web.close() }
