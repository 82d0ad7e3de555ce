package hnswtoolbox

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/format"
	"go/parser"
	"go/printer"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestRootForwardsEveryName compares the package at the module's root with the exported declarations
// of this one, comments included, because editors and pkg.go.dev show the comment of the alias.
// UPDATE=1 writes the root package. The test is here because the root package may not compile then.
func TestRootForwardsEveryName(t *testing.T) {
	const file = "../hnswtoolbox.go"
	found := readSource(t, file)
	comment, _, _ := strings.Cut(found, "package hnswtoolbox\n")
	expected := comment + forwards(t)
	if found == expected {
		return
	}
	if os.Getenv("UPDATE") == "1" {
		if err := os.WriteFile(file, []byte(expected), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	lines := strings.Split(found, "\n")
	for i, line := range strings.Split(expected, "\n") {
		if i >= len(lines) || lines[i] != line {
			t.Fatalf("%s:%d: expected %q, as in ./go. Run: UPDATE=1 go test -run RootForwards ./go", file, i+1, line)
		}
	}
	t.Fatalf("%s: found lines that ./go does not have. Run: UPDATE=1 go test -run RootForwards ./go", file)
}

// forwards returns the root package's file without its package comment.
func forwards(t *testing.T) string {
	t.Helper()
	paths, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	f := forwarder{T: t, files: token.NewFileSet(), imports: map[string]bool{}}
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(f.files, path, readSource(t, path), parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, declaration := range file.Decls {
			switch declaration := declaration.(type) {
			case *ast.GenDecl:
				f.group(declaration)
			case *ast.FuncDecl:
				if declaration.Recv == nil && declaration.Name.IsExported() {
					f.function(file, declaration)
				}
			}
		}
	}
	text := "package hnswtoolbox\n\nimport (\n"
	for _, path := range slices.Sorted(maps.Keys(f.imports)) {
		text += path + "\n"
	}
	text += "\ntoolbox \"github.com/amikos-tech/hnsw-toolbox/go\"\n)\n"
	source, err := format.Source([]byte(text + f.body.String()))
	if err != nil {
		t.Fatal(err)
	}
	return string(source)
}

// forwarder writes declarations that forward to a package named toolbox.
type forwarder struct {
	*testing.T
	files   *token.FileSet
	imports map[string]bool // quoted paths of the packages in signatures
	body    bytes.Buffer
}

// group forwards the exported names of a declaration of types, constants or variables.
func (f *forwarder) group(group *ast.GenDecl) {
	var lines []string
	for _, spec := range group.Specs {
		var names []*ast.Ident
		var doc, comment *ast.CommentGroup
		switch spec := spec.(type) {
		case *ast.TypeSpec:
			names, doc, comment = []*ast.Ident{spec.Name}, spec.Doc, spec.Comment
			if spec.TypeParams != nil && spec.Name.IsExported() {
				f.Fatalf("%s: found type parameters, expected none", spec.Name)
			}
		case *ast.ValueSpec:
			names, doc, comment = spec.Names, spec.Doc, spec.Comment
		}
		for _, name := range names {
			if name.IsExported() {
				lines = append(lines, fmt.Sprintf("%s%s = toolbox.%s %s\n", comments(doc), name, name, strings.TrimSuffix(comments(comment), "\n")))
			}
		}
	}
	if len(lines) == 0 {
		return
	}
	open, end := "", ""
	if group.Lparen.IsValid() {
		open, end = "(\n", ")"
	}
	fmt.Fprintf(&f.body, "\n%s%s %s%s%s\n", comments(group.Doc), group.Tok, open, strings.Join(lines, ""), end)
}

// function forwards a function.
func (f *forwarder) function(file *ast.File, function *ast.FuncDecl) {
	if function.Type.TypeParams != nil {
		f.Fatalf("%s: found type parameters, expected none", function.Name)
	}
	var parameters, arguments []string
	for _, field := range function.Type.Params.List {
		dots := ""
		if _, variadic := field.Type.(*ast.Ellipsis); variadic {
			dots = "..."
		}
		for _, name := range field.Names {
			parameters = append(parameters, name.Name+" "+f.print(field.Type))
			arguments = append(arguments, name.Name+dots)
		}
	}
	var results []string
	if function.Type.Results != nil {
		for _, field := range function.Type.Results.List {
			for range max(len(field.Names), 1) {
				results = append(results, f.print(field.Type))
			}
		}
	}
	returns := "return "
	if len(results) == 0 {
		returns = ""
	}
	ast.Inspect(function.Type, func(node ast.Node) bool {
		if selector, ok := node.(*ast.SelectorExpr); ok {
			f.use(file, f.print(selector.X))
		}
		return true
	})
	fmt.Fprintf(&f.body, "\n%sfunc %s(%s) (%s) {\n%stoolbox.%s(%s)\n}\n", comments(function.Doc), function.Name,
		strings.Join(parameters, ", "), strings.Join(results, ", "), returns, function.Name,
		strings.Join(arguments, ", "))
}

// use imports the package that file calls name.
func (f *forwarder) use(file *ast.File, name string) {
	for _, spec := range file.Imports {
		path, err := strconv.Unquote(spec.Path.Value)
		if err == nil && filepath.Base(path) == name {
			f.imports[spec.Path.Value] = true
			return
		}
	}
	f.Fatalf("%s: found no import", name)
}

func (f *forwarder) print(node ast.Node) string {
	var text strings.Builder
	if err := printer.Fprint(&text, f.files, node); err != nil {
		f.Fatal(err)
	}
	return text.String()
}

// comments returns comment lines as they are in the source.
func comments(group *ast.CommentGroup) string {
	text := ""
	if group != nil {
		for _, comment := range group.List {
			text += comment.Text + "\n"
		}
	}
	return text
}

// readSource returns the text of a file with the line ends of Unix, which Git may change on Windows.
func readSource(t *testing.T, path string) string {
	t.Helper()
	return strings.ReplaceAll(string(mustRead(t, path)), "\r\n", "\n")
}
