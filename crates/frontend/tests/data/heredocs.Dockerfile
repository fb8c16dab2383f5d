FROM alpine
ARG WHO=you
RUN <<EOT
echo one
echo two
EOT
RUN <<EOT
#!/usr/bin/env python3
print(1)
EOT
RUN cat <<A && cat <<-B
a
A
	b
B
COPY <<FILE <<"RAW" /etc/
hello $WHO
FILE
hello $WHO
RAW
