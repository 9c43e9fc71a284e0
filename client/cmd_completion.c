/* The script is made from the same tables as parsing and help. */
#include <string.h>

#include "client/cli.h"

static void print_words(const struct cli_flag *flags, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        (void)printf(" --%s", flags[i].name);
    }
}

static void print_bash(void)
{
    (void)printf("# bash completion for shoal; load with: source <(shoal completion bash)\n"
                 "_shoal() {\n"
                 "    local cur=${COMP_WORDS[COMP_CWORD]} cmd=${COMP_WORDS[1]} words=\n"
                 "    if [[ $COMP_CWORD -eq 1 ]]; then\n"
                 "        words=\"");
    for (size_t i = 0; cli_commands[i]; i++) {
        (void)printf("%s%s", i ? " " : "", cli_commands[i]->name);
    }
    (void)printf("\"\n    elif [[ $cur == -* ]]; then\n        case $cmd in\n");
    for (size_t i = 0; cli_commands[i]; i++) {
        const struct cli_command *command = cli_commands[i];

        (void)printf("        %s%s%s) words=\"", command->name, command->alias ? "|" : "",
                     command->alias ? command->alias : "");
        print_words(command->flags, command->flag_count);
        print_words(cli_shared_flags, cli_shared_flag_count);
        (void)printf("\" ;;\n");
    }
    (void)printf("        esac\n"
                 "    else\n"
                 "        case $cmd in\n"
                 "        files) [[ $COMP_CWORD -eq 2 ]] && words=\"ls mkdir rm\" ||\n"
                 "            words=$(shoal ls -q 2>/dev/null) ;;\n"
                 "        checkpoint) [[ $COMP_CWORD -eq 2 ]] && words=\"create ls rm\" ||\n"
                 "            words=$(shoal ls -q 2>/dev/null) ;;\n"
                 "        preview) [[ $COMP_CWORD -eq 2 ]] && words=\"create ls rm\" ||\n"
                 "            words=$(shoal ls -q 2>/dev/null) ;;\n"
                 "        restore) [[ $COMP_CWORD -eq 2 ]] && words=$(shoal ls -q 2>/dev/null) ||\n"
                 "            words=$(shoal checkpoint ls -q \"${COMP_WORDS[2]}\" 2>/dev/null) ;;\n"
                 "        get|exec|kill|rm|timeout|hibernate|wake|reboot|fork)\n"
                 "            words=$(shoal ls -q 2>/dev/null) ;;\n"
                 "        cp) COMPREPLY=($(compgen -f -- \"$cur\")\n"
                 "            $(compgen -S : -W \"$(shoal ls -q 2>/dev/null)\" -- \"$cur\"))\n"
                 "            return ;;\n"
                 "        node) [[ $COMP_CWORD -eq 2 ]] &&\n"
                 "            words=\"ls drain cordon uncordon rm\" ||\n"
                 "            words=$(shoal node ls -q 2>/dev/null) ;;\n"
                 "        secret) case $COMP_CWORD-${COMP_WORDS[2]}-${COMP_WORDS[3]} in\n"
                 "            2-*) words=\"store set ls rm\" ;;\n"
                 "            3-store-*) words=\"create ls get update rm\" ;;\n"
                 "            3-*|4-store-[gur]*|?-store-rm)\n"
                 "                words=$(shoal secret store ls -q 2>/dev/null) ;;\n"
                 "            4-*|?-rm-*)\n"
                 "                words=$(shoal secret ls -q \"${COMP_WORDS[3]}\" 2>/dev/null) ;;\n"
                 "            esac ;;\n"
                 "        agent) [[ $COMP_CWORD -eq 2 ]] &&\n"
                 "            words=\"start attach ls prompt interrupt kill\" ||\n"
                 "            words=$(shoal ls -q 2>/dev/null) ;;\n"
                 "        cluster) words=status ;;\n"
                 "        token) words=create ;;\n"
                 "        completion) words=bash ;;\n"
                 "        help) words=\"$(compgen -W \"");
    for (size_t i = 0; cli_commands[i]; i++) {
        (void)printf("%s%s", i ? " " : "", cli_commands[i]->name);
    }
    (void)printf("\")\" ;;\n"
                 "        esac\n"
                 "    fi\n"
                 "    COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
                 "}\n"
                 "complete -F _shoal shoal\n");
}

static int run(struct cli *cli, int argc, char **argv)
{
    int code = cli_parse(cli, NULL, argc, argv, 1, 1);

    if (code != CLI_GO) {
        return code;
    }
    if (strcmp(cli->operands[0], "bash") != 0) {
        return cli_usage(cli, "\"%.40s\" is not supported, only bash is", cli->operands[0]);
    }
    print_bash();
    return CLI_OK;
}

const struct cli_command cli_cmd_completion = {
    .name = "completion",
    .summary = "print a completion script for a shell",
    .usage = "bash",
    .example = "source <(shoal completion bash)",
    .run = run,
};
