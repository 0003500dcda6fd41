// Package specfile reads the files and the words in which people describe
// workloads: YAML and JSON documents, sizes and times.
package specfile
