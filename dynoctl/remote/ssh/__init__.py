"""SSH, by paramiko: the only room that imports it. Enter by `link.connect` and `connection.SshConnection`."""
