// Package migrate holds docs/migrate.md to the truth: the tables of names there are made of the
// functions here, so that both columns of each row compile, and the tables of behaviour of what
// happens when the libraries are run. The tests compare them with the page, and
//
//	go test -update
//
// writes them into it.
//
// In the files names_*.go two functions make a row: the first has their name and its comment is the
// row's last column, the second has ours.
package migrate
