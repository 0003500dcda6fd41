package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/perrin-mesh/perrin/cmd/perrin/internal/terminal"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/rights"
	"github.com/perrin-mesh/perrin/workload/specfile"
)

func (a *app) tokenCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "token", Short: "Let another node see, stop or submit workloads in your name",
		Example: examples("perrin token issue --to attic --may observe > attic.token", "perrin token inspect attic.token"),
		Args:    cobra.ArbitraryArgs, RunE: helpOrUnknown,
	}
	cmd.AddCommand(a.tokenIssueCommand(), a.tokenDelegateCommand(), a.tokenInspectCommand(), a.tokenRevokeCommand())
	return cmd
}

// tokenFlags are what a token is to say.
type tokenFlags struct {
	to, may, quota, lasts string
	only                  []string
	maxPrice              int64
}

func (f *tokenFlags) add(cmd *cobra.Command, may, lasts string) {
	fl := cmd.Flags()
	fl.SortFlags = false
	fl.StringVar(&f.to, "to", "", "the node it is for: its name while it is connected, or its identity, which perrin trust status shows there")
	fl.StringVar(&f.may, "may", "", "observe (list, read, follow), operate (stop) and submit, with commas between"+may)
	oneOf(cmd, "may", []string{"observe", "operate", "submit"})
	fl.StringArrayVar(&f.only, "only", nil, "for this workload alone; repeatable (default: all of yours, now and later)")
	fl.Int64Var(&f.maxPrice, "max-price", 0, "of what is submitted: micro-credits a second at most for each slot")
	fl.StringVar(&f.quota, "quota", "", "of what is submitted and has not ended, in all: cpus=8,memory=16GiB,tasks=1000; and credits=50000, micro-credits that it may cost ever")
	fl.StringVar(&f.lasts, "expires", "", "how long it lasts, such as 30d"+lasts)
}

// order is what the flags ask for, but for the workloads that they name.
func (f *tokenFlags) order() (o api.TokenOrder, err error) {
	if f.to == "" {
		return o, usagef("", "--to: name the node that the token is for")
	}
	o.To = f.to
	for _, c := range strings.Split(f.may, ",") {
		if f.may != "" {
			o.May = append(o.May, rights.Capability(strings.TrimSpace(c)))
		}
	}
	for _, c := range o.May {
		if c != rights.Submit && c != rights.Observe && c != rights.Operate {
			return o, usagef("--may observe,operate", "--may: want observe, operate or submit, got %.40q", string(c))
		}
	}
	if f.maxPrice < 0 {
		return o, usagef("", "--max-price: want 0 or more, got %d", f.maxPrice)
	}
	if o.Limits, err = quotaOf(f.quota); err != nil {
		return o, err
	}
	o.Limits.MaxPrice = f.maxPrice
	if o.Limits != (workload.TokenLimits{}) && len(o.May) > 0 && !slices.Contains(o.May, rights.Submit) {
		return o, usagef("--may submit, or leave the limits out", "--may %s with --quota or --max-price: they bound what is submitted, which this token would not allow", f.may)
	}
	if f.lasts != "" {
		d, err := specfile.ParseDuration(f.lasts)
		if err != nil || d < time.Second || d > rights.MaxLifetime {
			return o, usagef("write a time such as 30d", "--expires: want 1s to %d days, got %.40q", rights.MaxLifetime/(24*time.Hour), f.lasts)
		}
		o.ForMs = d.Milliseconds()
	}
	return o, nil
}

// quotaOf reads cpus=8,memory=16GiB,tasks=1000,credits=50000.
func quotaOf(text string) (l workload.TokenLimits, err error) {
	if text == "" {
		return l, nil
	}
	for _, part := range strings.Split(text, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		to := map[string]*int64{"cpus": &l.CPUs, "memory": &l.Memory, "tasks": &l.Tasks, "credits": &l.Credits}[name]
		if to == nil || *to != 0 {
			return l, usagef("--quota cpus=8,memory=16GiB,tasks=1000,credits=50000", "--quota: %.40q is not cpus=, memory=, tasks= or credits=, each once", part)
		}
		if name == "memory" {
			*to, err = specfile.ParseSize(value)
		} else {
			*to, err = strconv.ParseInt(value, 10, 64)
		}
		if err != nil || *to < 1 {
			return l, usagef("--quota cpus=8,memory=16GiB,tasks=1000,credits=50000", "--quota: %s: want a number above 0, got %.40q", name, value)
		}
	}
	return l, nil
}

func (a *app) tokenIssueCommand() *cobra.Command {
	var f tokenFlags
	cmd := &cobra.Command{
		Use: "issue --to NODE --may RIGHTS", Short: "Make a token for a node",
		Long: `Make a token by which a node may do something with the workloads that are
submitted on this node: observe lists and reads them and follows their output,
operate stops them, submit runs new ones in your name, at your cost. The token is
printed; it is worth something on that node alone, so it may travel over any way.
There it is named with --token FILE. It ends by itself, or when you revoke it: keep
its text for that.`,
		Example: examples("perrin token issue --to attic --may observe > attic.token",
			"perrin token issue --to attic --may observe --only render --expires 1d > attic.token",
			"perrin token issue --to 12D3KooW… --may submit --max-price 500 --quota cpus=8,credits=1000000 > guest.token"),
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.may == "" {
				return usagef("--may observe", "--may: say what the token is for")
			}
			return a.makeToken(cmd, &f, "")
		},
	}
	f.add(cmd, "", " (default 7d)")
	a.jsonFlag(cmd)
	return cmd
}

func (a *app) tokenDelegateCommand() *cobra.Command {
	var f tokenFlags
	cmd := &cobra.Command{
		Use: "delegate FILE --to NODE", Short: "Hand a token on that was given to this node",
		Long: `Hand a token on that was given to this node, or a part of what it allows. A token
goes from node to node eight times at most, and never says more than before.`,
		Example: examples("perrin token delegate attic.token --to cellar > cellar.token", "perrin token delegate attic.token --to cellar --may observe --expires 1h > cellar.token"),
		Args:    exactly(1, "one FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := a.readToken(args[0])
			if err != nil {
				return err
			}
			return a.makeToken(cmd, &f, text)
		},
	}
	f.add(cmd, " (default: what FILE allows)", " (default: as long as FILE)")
	a.jsonFlag(cmd)
	return cmd
}

func (a *app) makeToken(cmd *cobra.Command, f *tokenFlags, of string) error {
	if err := notEmpty(cmd.Flags(), "quota", "expires"); err != nil {
		return err
	}
	o, err := f.order()
	if err != nil {
		return err
	}
	o.Of = of
	return a.withBackend(func(b *backend) error {
		for _, text := range f.only {
			id, err := b.Resolve(cmd.Context(), text)
			if err != nil {
				return err
			}
			o.Only = append(o.Only, id)
		}
		t, err := b.MakeToken(cmd.Context(), o)
		if err != nil {
			return err
		}
		return show(a, t, func(t *api.Token) error {
			a.note("for %s: %s, until %s", orElse(terminal.Clean(t.Name, 64), t.Audience.String()), mayText(t.May), t.Expires.Local().Format(trustTime))
			_, err := fmt.Fprintln(a.stdout, t.Text)
			return err
		})
	})
}

func mayText(may []rights.Capability) string {
	var words []string
	for _, c := range may {
		words = append(words, string(c))
	}
	return strings.Join(words, ", ")
}

// readToken reads a token's text from a file, or from stdin for "-".
func (a *app) readToken(name string) (string, error) {
	in := a.stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return "", &failure{err: err, code: exitUsage, hint: "name the file with the token that `perrin token issue` printed; - is stdin"}
		}
		defer f.Close()
		in = f
	}
	raw, err := io.ReadAll(io.LimitReader(in, int64(rights.MaxText)+64))
	return strings.TrimSpace(string(raw)), err
}

// tokenFlag adds --token, under which the command's requests then go.
func (a *app) tokenFlag(cmd *cobra.Command) {
	var name string
	cmd.Flags().StringVar(&name, "token", "", "file with a token of the owner's, for what is not yours: perrin token --help")
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) error {
		if name == "" {
			return notEmpty(cmd.Flags(), "token")
		}
		text, err := a.readToken(name)
		if err != nil {
			return fmt.Errorf("--token: %w", err)
		}
		chain, err := rights.Parse(text)
		if err != nil {
			return usagef("`perrin token issue` prints one", "--token %s: %v", name, err)
		}
		cmd.SetContext(api.WithToken(cmd.Context(), chain))
		return nil
	}
}

// tokenView is what `perrin token inspect --json` prints.
type tokenView struct {
	Valid bool   `json:"valid"` // signatures and rules hold, and it counts now
	Wrong string `json:"wrong,omitempty"`
	// Asked says that a daemon was asked whether the token was revoked.
	Asked bool                 `json:"asked"`
	May   []rights.Capability  `json:"may,omitempty"`
	Only  []workload.ID        `json:"only,omitempty"`
	Limit workload.TokenLimits `json:"limits"`
	Links []tokenLink          `json:"links"`
}

type tokenLink struct {
	By workload.PeerID `json:"by"`
	rights.Delegation
}

func (a *app) tokenInspectCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "inspect FILE", Short: "Show what a token says, and whether it holds",
		Long: `Show what a token says, link by link, and whether its signatures and rules hold and
it counts now. A daemon, where one runs, is asked whether it was revoked. FILE is - for
stdin. Returns 1 when it does not hold.`,
		Example: examples("perrin token inspect attic.token", "perrin token inspect - --json < attic.token"),
		Args:    exactly(1, "one FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := a.readToken(args[0])
			if err != nil {
				return err
			}
			chain, err := rights.Parse(text)
			if err != nil {
				return usagef("`perrin token issue` prints one", "%s: %v", args[0], err)
			}
			v := viewToken(chain, time.Now())
			a.askRevoked(cmd.Context(), text, v)
			if err := show(a, v, a.printToken); err != nil {
				return err
			}
			if !v.Valid {
				return &failure{err: fmt.Errorf("the token does not hold: %s", v.Wrong), code: exitFailure}
			}
			return nil
		},
	}
	a.jsonFlag(cmd)
	return cmd
}

// viewToken judges a token by itself: of the mesh that it says it is of, in the
// hand of the node that it was given to.
func viewToken(chain []workload.Signed, now time.Time) *tokenView {
	v := &tokenView{Links: []tokenLink{}}
	for _, s := range chain {
		l := tokenLink{By: s.By}
		if wire.Unmarshal(s.Payload, &l.Delegation) != nil {
			break // what is wrong with it, Open says
		}
		v.Links = append(v.Links, l)
	}
	var mesh workload.MeshID
	if len(v.Links) > 0 {
		mesh = v.Links[0].Mesh
	}
	g, err := rights.Open(chain, mesh, rights.Reader{Decode: wire.Unmarshal, Verify: func(d workload.Domain, s workload.Signed) error { return s.Verify(d) }})
	if err == nil {
		v.May, v.Only, v.Limit = g.May(), g.Only(), g.Limits()
		err = g.Allows(g.Audience, g.May()[0], now.UnixMilli())
	}
	if v.Valid = err == nil; err != nil {
		v.Wrong = err.Error()
	}
	return v
}

func (a *app) printToken(v *tokenView) error {
	var out strings.Builder
	p := func(name, format string, args ...any) {
		fmt.Fprintf(&out, "%-9s%s\n", name, fmt.Sprintf(format, args...))
	}
	for i, l := range v.Links {
		if i == 0 {
			p("mesh", "%s", l.Mesh.String()[:16])
			p("about", "the workloads of owner %s", l.Subject)
		}
		p(fmt.Sprintf("link %d", i+1), "%s gives it to %s", l.By.Short(), l.Audience)
		p("", "may %s%s, from %s to %s", terminal.Clean(mayText(l.May), 80), onlyText(l.Only), time.UnixMilli(l.NotBefore).Local().Format(trustTime), time.UnixMilli(l.Expires).Local().Format(trustTime))
		if text := limitsText(&l.Limits); text != "" {
			p("", "%s", text)
		}
	}
	if v.Valid {
		p("holds", "yes: may %s%s", mayText(v.May), onlyText(v.Only))
	}
	if !v.Asked && v.Valid {
		p("revoked", "not known: no daemon was asked")
	}
	_, err := fmt.Fprint(a.stdout, out.String())
	return err
}

func onlyText(only []workload.ID) string {
	if len(only) == 0 {
		return ""
	}
	var ids []string
	for _, id := range only {
		ids = append(ids, id.Short())
	}
	return " (only " + strings.Join(ids, ", ") + ")"
}

func limitsText(l *workload.TokenLimits) string {
	var parts []string
	for _, b := range []struct {
		n    int64
		text string
	}{
		{l.MaxPrice, "%d micro-credits a second for a slot"}, {l.Credits, "%d micro-credits in all"}, {l.CPUs, "%d cpus"}, {l.Tasks, "%d tasks"},
	} {
		if b.n > 0 {
			parts = append(parts, fmt.Sprintf(b.text, b.n))
		}
	}
	if l.Memory > 0 {
		parts = append(parts, terminal.Size(l.Memory)+" of memory")
	}
	if len(parts) == 0 {
		return ""
	}
	return "at most " + strings.Join(parts, ", ")
}
