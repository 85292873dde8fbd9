package postfix

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
)

// Instance is one Postfix of a host: a configuration directory.
type Instance struct {
	// Config is the configuration directory, and Default whether programs take it unless
	// they are told another.
	Config  string
	Default bool
	// Version is that of Postfix ("3.7.11").
	Version string
	// Main is what main.cf comes to, by the names that were asked for. Names that this
	// Postfix does not know are missing.
	Main map[string]string
	// Clients are the services of master.cf that run smtp(8), in the order of their names.
	Clients []Client
}

// Client is one service that runs smtp(8).
type Client struct {
	// Service is its name and type, as postconf has them: "smtp/unix".
	Service string
	// Settings are those of Main, with what master.cf gives this service by "-o".
	Settings map[string]string
	// Own are the names that master.cf gives.
	Own map[string]bool
	// Setup is what it comes to. Unclear is why that cannot be told.
	Setup   Setup
	Unclear error
}

// Main service names.
const (
	smtpProgram      = "smtp"
	defaultTransport = "default_transport"
	relayTransport   = "relay_transport"
)

// Instances asks postmulti and postconf for every Postfix of the host, the default one
// first, and for the settings that are named, besides those that Examine looks at. Where
// there is no Postfix, there are none and no error. Errors wrap ErrExamine; beside some
// instances, one says that there may be more.
func (h Host) Instances(ctx context.Context, names ...string) ([]Instance, error) {
	postconf, err := h.find()
	if postconf == "" || err != nil {
		return nil, err
	}
	dirs, more := h.directories(ctx, filepath.Join(filepath.Dir(postconf), "postmulti"))
	var all []Instance
	for i, dir := range dirs {
		one, err := h.instance(ctx, tool{postconf, dir}, names)
		if err != nil {
			return all, err
		}
		one.Default = i == 0
		all = append(all, one)
	}
	return all, more
}

// directories are the configuration directories, the default one first; "" is the one
// that postconf takes by itself.
func (h Host) directories(ctx context.Context, postmulti string) ([]string, error) {
	out, err := h.Run(ctx, postmulti, "-l")
	if err != nil {
		return []string{""}, fmt.Errorf("%w: %s -l: %w", ErrExamine, postmulti, err)
	}
	dirs := []string{""}
	for line := range strings.Lines(string(out)) {
		// Name, group, enabled, directory; "-" is the name of the default one.
		if words := strings.Fields(line); len(words) == 4 && words[0] != "-" {
			dirs = append(dirs, words[3])
		}
	}
	return dirs, nil
}

// tool is postconf, for one configuration directory.
type tool struct{ program, dir string }

// postconf asks one instance.
func (h Host) postconf(ctx context.Context, t tool, args ...string) (map[string]string, error) {
	if t.dir != "" {
		args = append([]string{"-c", t.dir}, args...)
	}
	return h.ask(ctx, t.program, args...)
}

func (h Host) instance(ctx context.Context, t tool, names []string) (Instance, error) {
	names = append([]string{mailVersion, "config_directory", queue, level, defaultTransport, relayTransport}, append(ofSmtp(), names...)...)
	main, err := h.postconf(ctx, t, append([]string{"-x"}, names...)...)
	if err != nil {
		return Instance{}, err
	}
	fields, err := h.postconf(ctx, t, "-F")
	if err != nil {
		return Instance{}, err
	}
	options, err := h.postconf(ctx, t, "-P", "-x")
	if err != nil {
		return Instance{}, err
	}
	one := Instance{Config: main["config_directory"], Version: main[mailVersion], Main: main}
	if one.Version == "" {
		return Instance{}, fmt.Errorf("%w: postconf names no version", ErrExamine)
	}
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		service, ok := strings.CutSuffix(key, "/command")
		if !ok {
			continue
		}
		if run, _, _ := strings.Cut(fields[key], " "); run != smtpProgram {
			continue
		}
		c := Client{Service: service, Settings: maps.Clone(main), Own: make(map[string]bool)}
		for option, value := range options {
			if name, ok := strings.CutPrefix(option, service+"/"); ok {
				c.Settings[name], c.Own[name] = value, true
			}
		}
		c.Setup, c.Unclear = h.read(c.Settings, fields[service+"/chroot"])
		one.Clients = append(one.Clients, c)
	}
	return one, nil
}

// Outward returns the clients that mail takes which no table sends elsewhere: those that
// default_transport and relay_transport name.
func (i Instance) Outward() []Client {
	var list []Client
	for _, c := range i.Clients {
		for _, name := range []string{defaultTransport, relayTransport} {
			if first, _, _ := strings.Cut(i.Main[name], ":"); c.Service == first+"/unix" {
				list = append(list, c)
				break
			}
		}
	}
	return list
}

// Tables takes a list of tables apart at commas and white space, but not within braces.
func Tables(value string) []string { return split(value) }
