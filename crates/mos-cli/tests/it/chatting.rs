use crate::{run_with_input, stdout};

#[test]
fn a_conversation_goes_on_after_a_line_that_cannot_be_answered() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    stdout(data, &["add", "My dog is called Max.", "--user", "ann"]);
    let too_long = "word ".repeat(20_000);
    let lines = format!("{too_long}\nclear\nmemories\nWhat is the name of my dog?\nbye\nnever read\n");
    let output = run_with_input(data, &["chat", "--no-remember", "--user", "ann"], &lines);
    let (out, errors) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(errors.contains("error: the conversation has") && errors.contains("shorten it"), "{errors}");
    assert!(out.contains("My dog is called Max."), "`memories` lists them: {out}");
    assert!(out.lines().last().unwrap().contains("Max"), "the question after the long line is answered: {out}");
    assert_eq!(output.status.code(), Some(1), "a script learns that a line failed");
    assert!(errors.contains("1 lines could not be answered"), "{errors}");
}

#[test]
fn a_conversation_ends_with_its_input() {
    let data = tempfile::tempdir().unwrap();
    let output = run_with_input(data.path(), &["chat", "--user", "ann"], "memories\n");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stdout.is_empty());
}
