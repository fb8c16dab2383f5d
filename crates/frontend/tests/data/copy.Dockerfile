FROM alpine
WORKDIR app
COPY a b/ ./
COPY --chown=user:0 --chmod=0755 --exclude=*.md x /y
COPY --parents src/./a/*.c /c/
COPY --link z /z
ADD https://example.com/f.tar.gz /f
ADD --keep-git-dir=true https://example.com/r.git#v1:docs /g
ADD archive.tar /h
