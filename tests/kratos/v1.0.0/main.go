// Kratos 1.0.0 as a program of our own, so that the ordinary Go tools build it from its module.
package main

import (
	"github.com/ory/kratos/cmd"
	"github.com/ory/kratos/driver"
	"github.com/ory/x/dbal"
)

func main() {
	// This release finds its database driver in a registry that only its own main package fills.
	dbal.RegisterDriver(func() dbal.Driver { return driver.NewRegistryDefault() })
	cmd.Execute()
}
