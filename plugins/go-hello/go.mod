module twitcher.example/go-hello

go 1.24
