// Package specfile reads the files and the words in which people describe
// workloads.
//
// A file is YAML or JSON and holds one workload, or several under workloads:
// that may come after each other. Parse checks everything that can be checked
// without looking at another file and says what is wrong by line and column.
// What remains is for the caller: the program, the inputs, stdin and the glob
// of map: are names of local files, relative to the folder of the file, that
// have to be found, stored and put into the Spec.
//
// Schema is the same rules as a JSON Schema, for editors.
package specfile
