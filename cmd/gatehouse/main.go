// Command gatehouse is an OAuth 2.1 authorization server and OpenID Connect provider in one binary, with the commands that
// look after it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"reflect"
	"regexp"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/alecthomas/kong"
)

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2 // a bad setting, flag or argument
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	os.Exit(run(ctx, os.Args[1:], os.Getenv, os.Stdin, os.Stdout, os.Stderr))
}

// commands is the command line. Each command is in the file named after it.
type commands struct {
	JSON bool `help:"Write one JSON document to standard output instead of text."`

	Serve       serveCommand       `cmd:"" help:"Run the server."`
	Demo        demoCommand        `cmd:"" help:"Run the demo app, a small website that signs people in through the server."`
	Migrate     migrateCommand     `cmd:"" help:"Bring the database schema up to date (serve does it by itself)."`
	User        userCommands       `cmd:"" help:"Look after people."`
	Client      clientCommands     `cmd:"" help:"Look after the apps that sign people in."`
	Group       groupCommands      `cmd:"" help:"Look after groups of people."`
	Role        roleCommands       `cmd:"" help:"Look after roles, which permit people things at APIs."`
	API         apiCommands        `cmd:"" name:"api" help:"Look after APIs and the permissions that roles can hold."`
	Details     detailsCommands    `cmd:"" name:"details-type" help:"Look after what apps may ask for in detail (authorization_details)."`
	Attribute   attributeCommands  `cmd:"" help:"Look after what is known of people beside the standard profile, and what apps get of it."`
	Delivery    deliveryCommands   `cmd:"" help:"See which apps were told of sign-outs and other events, and which were not."`
	Provider    providerCommands   `cmd:"" help:"Look after other services at which people may sign in."`
	Issuer      issuerCommands     `cmd:"" help:"Look after other issuers whose signed statements count here: tokens of machines, assertions about people, software statements."`
	Keys        keysCommands       `cmd:"" help:"Look after the signing keys."`
	Conformance conformanceCommand `cmd:"" help:"Hold the running configuration against OAuth 2.1, RFC 9700, FAPI 2.0 and MCP."`
	Audit       auditCommands      `cmd:"" help:"Read the audit log, and prove that it is whole."`
	Backup      backupCommands     `cmd:"" help:"Write backups from which nobody rises again who was erased."`
	Restore     restoreCommands    `cmd:"" help:"Bring back what a backup of the database leaves out."`
	Bench       benchCommands      `cmd:"" help:"Make data to measure with."`
	Version     versionCommand     `cmd:"" help:"Tell the version."`
}

// terminal is what a command talks to.
type terminal struct {
	ctx    context.Context
	json   bool
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
}

// run is the whole program but for the process around it.
func run(ctx context.Context, args []string, getenv func(string) string, stdin io.Reader, stdout, stderr io.Writer) int {
	var c commands
	helped := false
	parser, err := kong.New(&c,
		kong.Name("gatehouse"),
		kong.Description("Gatehouse signs people in to apps: OAuth 2.1 and OpenID Connect with its own accounts and pages."),
		kong.Writers(stdout, stderr),
		kong.Exit(func(int) { helped = true }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 110}),
		kong.ValueFormatter(withVariable),
		kong.ExplicitGroups(groups),
		kong.TypeMapper(reflect.TypeFor[time.Duration](), kong.MapperFunc(decodeDuration)),
		kong.Resolvers(kong.ResolverFunc(func(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
			for _, name := range flag.Envs {
				if v := getenv(name); v != "" {
					return v, nil
				}
			}
			return nil, nil //nolint:nilnil // kong's way to say "not set"
		})),
	)
	if err != nil {
		panic(err) // the structs above are wrong
	}
	takeVariables(parser)
	if len(args) == 0 {
		args = []string{"--help"}
	}
	k, err := parser.Parse(args)
	if helped {
		return exitOK
	}
	if err == nil {
		err = k.Run(&terminal{ctx: ctx, json: c.JSON, stdin: stdin, stdout: stdout, stderr: stderr})
		if parse := (*kong.ParseError)(nil); err == nil || !errors.As(err, &parse) && !isSetting(err) {
			return report(stderr, err, exitFailed)
		}
	}
	err = named(err, parser.Model.Node, args)
	if parse := (*kong.ParseError)(nil); errors.As(err, &parse) { // about the shape of the command, not about a setting
		err = fmt.Errorf("%w: see `%s --help`", err, strings.TrimSpace("gatehouse "+parse.Context.Command()))
	}
	return report(stderr, err, exitUsage)
}

// takeVariables makes kong ask getenv instead of the process for each flag's variable.
func takeVariables(parser *kong.Kong) {
	_ = kong.Visit(parser.Model, func(node kong.Visitable, next kong.Next) error {
		if flag, ok := node.(*kong.Flag); ok && len(flag.Tag.Envs) > 0 {
			flag.Envs, flag.Tag.Envs = flag.Tag.Envs, nil
		}
		return next(nil)
	})
}

// withVariable puts a setting's environment variable behind its help.
func withVariable(v *kong.Value) string {
	if v.Flag == nil || len(v.Flag.Envs) == 0 {
		return v.Help
	}
	return v.Help + " ($" + v.Flag.Envs[0] + ")"
}

// settingError says what is wrong with one setting and how to cure it.
type settingError struct {
	flag    string
	problem string
}

func badSetting(flag, format string, args ...any) error {
	return &settingError{flag, fmt.Sprintf(format, args...)}
}

// Error implements error.
func (e *settingError) Error() string { return "--" + e.flag + ": " + e.problem }

func isSetting(err error) bool {
	setting := (*settingError)(nil)
	return errors.As(err, &setting)
}

var flagInError = regexp.MustCompile(`^(?:[a-z -]+: )?--(?:\[no-\])?([a-z-]+)(?:=\S*)?:? `)

// named puts the environment variable in front of an error about a flag of the command in args, because that is what most
// people have set.
func named(err error, node *kong.Node, args []string) error {
	text := err.Error()
	m := flagInError.FindStringSubmatch(text)
	if m == nil {
		return err
	}
	for _, arg := range args {
		for _, child := range node.Children {
			if child.Name == arg {
				node = child
				break
			}
		}
	}
	for _, flag := range node.Flags {
		if flag.Name == m[1] && len(flag.Envs) > 0 {
			return fmt.Errorf("%s (--%s): %s", flag.Envs[0], m[1], text[len(m[0]):])
		}
	}
	return err
}

// report writes err in one line and returns code, or exitOK without an error.
func report(stderr io.Writer, err error, code int) int {
	if err == nil {
		return exitOK
	}
	_, _ = fmt.Fprintf(stderr, "gatehouse: %s\n", strings.Join(strings.Fields(err.Error()), " "))
	return code
}

// print writes a result: v as JSON, or what human writes.
func (t *terminal) print(v any, human func(w io.Writer)) error {
	if t.json {
		enc := json.NewEncoder(t.stdout)
		enc.SetIndent("", "  ")
		enc.SetEscapeHTML(false)
		return enc.Encode(v)
	}
	w := tabwriter.NewWriter(t.stdout, 0, 4, 2, ' ', 0)
	human(w)
	return w.Flush()
}

// when writes a time for people; the zero time is "-".
func when(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format("2006-01-02 15:04:05Z")
}
